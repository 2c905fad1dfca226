"""How far a publication has got: a bar or a counter on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import trio
from attrs import frozen
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from ingestd.cli.rates import Window
from ingestd.cli.wording import clock, counted, rate, size

_EVERY = 10.0  # seconds between two lines


@frozen(slots=True, kw_only=True)
class Standing:
    """How a publication stands: *at* seconds of media are taken from the source.

    *done* are the bytes acknowledged or, plain, sent; *buffered* those that are kept for that.
    """

    at: float
    done: int
    buffered: int | None = None
    connected: bool = True
    reconnects: int = 0
    dropped: int = 0
    ending: bool = False


class Meter(Protocol):
    """Called whenever there is something new to show."""

    def __call__(self, standing: Standing) -> None: ...


@contextmanager
def open_meter(console: Console, total: float | None) -> Iterator[Meter]:
    """Show the progress of *total* seconds (None: not known) on *console* within the block."""
    words = _Words(total)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(console, words)
        return
    columns = [SpinnerColumn(style="green")] if total is None else [BarColumn(bar_width=24)]
    with Progress(*columns, TextColumn("{task.description}"), console=console, transient=True) as progress:
        task = progress.add_task("connecting", total=total)

        def show(standing: Standing) -> None:
            progress.update(task, completed=standing.at, description=words.take(standing))

        yield show


class _Words:
    def __init__(self, total: float | None) -> None:
        self._total = total
        self._window = Window()

    def take(self, standing: Standing) -> str:
        """One line: time, rate, what is acknowledged (or sent), and what is out of the ordinary."""
        rates = self._window.take({"done": standing.done}, trio.current_time())
        whole = f" / {clock(self._total)}" if self._total is not None else ""
        parts = [f"{clock(standing.at)}{whole}", rate(rates.get("done"))]
        if standing.buffered is None:
            parts.append(f"{size(standing.done)} sent")
        else:
            parts += [f"{size(standing.done)} acknowledged", f"{size(standing.buffered)} buffered"]
        if standing.reconnects:
            parts.append(counted(standing.reconnects, "reconnect"))
        if standing.dropped:
            parts.append(f"{counted(standing.dropped, 'chunk')} dropped")
        if not standing.connected:
            parts.append("not connected")
        if standing.ending:
            parts.append("ending; Ctrl-C again does not wait")
        return " · ".join(parts)


class _Lines:
    def __init__(self, console: Console, words: _Words) -> None:
        self._console = console
        self._words = words
        self._due = trio.current_time() + _EVERY

    def __call__(self, standing: Standing) -> None:
        line = self._words.take(standing)
        if trio.current_time() >= self._due:
            self._due = trio.current_time() + _EVERY
            self._console.print(line, soft_wrap=True)
