"""How far a publication has got: a bar or a counter on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from ingestd.cli.rates import Window
from ingestd.cli.wording import clock, rate, size

_EVERY = 10.0  # seconds between two lines


class Meter(Protocol):
    """Called after each chunk: with the seconds of media that are sent, and the chunk's bytes."""

    def __call__(self, at: float, count: int) -> None: ...


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

        def sent(at: float, count: int) -> None:
            progress.update(task, completed=at, description=words.take(at, count))

        yield sent


class _Words:
    def __init__(self, total: float | None) -> None:
        self._total = total
        self._window = Window()
        self._bytes = 0

    def take(self, at: float, count: int) -> str:
        rates = self._window.take({"sent": self._bytes}, trio.current_time())
        self._bytes += count
        whole = f" / {clock(self._total)}" if self._total is not None else ""
        return f"{clock(at)}{whole} · {rate(rates.get('sent'))} · {size(self._bytes)}"


class _Lines:
    def __init__(self, console: Console, words: _Words) -> None:
        self._console = console
        self._words = words
        self._due = trio.current_time() + _EVERY

    def __call__(self, at: float, count: int) -> None:
        line = self._words.take(at, count)
        if trio.current_time() >= self._due:
            self._due = trio.current_time() + _EVERY
            self._console.print(line, soft_wrap=True)
