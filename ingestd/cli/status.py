"""``ingestd status``: what a running daemon does, sink by sink."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import trio
from attrs import define, field
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ingestd.cli.common import config_option, run
from ingestd.cli.connect import api_option, api_url
from ingestd.cli.rates import Rates
from ingestd.cli.troubles import Troubles
from ingestd.cli.view import stream_view, warnings
from ingestd.client.api import Control, DaemonUnreachable

T = TypeVar("T")

_REFRESH = 1.0
_REFRESH_PLAIN = 2.0


@click.command
@config_option
@api_option
@click.option(
    "-w/-1",
    "--watch/--once",
    default=None,
    help="Go on until Ctrl-C, or look once. Default: go on in a terminal, without --json.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON, for scripts; with --watch one line every 2 s.")
def status(config_path: Path, url: str | None, watch: bool | None, as_json: bool) -> None:
    """Show what a running daemon does: each stream, its encoder and its sinks.

    \b
    ingestd status                          a live view, until Ctrl-C
    ingestd status --once                   as it is now
    ingestd status --json | jq '.streams[] | {name, state}'

    Above the streams it says what else is wrong: a database that is away, webhooks that fail. In the live
    view a daemon that goes away is waited for. Bit rates are measured for a second, so one look takes one.
    Exit status 1 if no daemon answers.
    """  # noqa: D301  \b is click's mark for lines that stay as they are
    base_url = api_url(url, config_path)
    console = Console(highlight=False)
    if watch is None:
        watch = console.is_terminal and not console.is_dumb_terminal and not as_json
    if watch:
        run(_watch, base_url, as_json)
    elif as_json:
        click.echo(json.dumps(run(_report, base_url), indent=2))
    else:
        console.print(run(_once, base_url))


@define(eq=False)
class Overview:
    """Looks at a daemon again and again, and remembers what it takes to tell rates."""

    control: Control
    _rates: dict[str, Rates] = field(factory=dict)
    _troubles: Troubles = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._troubles = Troubles(self.control)

    async def look(self, name: str | None = None) -> list[tuple[dict[str, Any], dict[str, float]]]:
        """Each stream's status (or only that of *name*) with its rates since the looks before."""
        if name is None:
            listed = (await self.control.streams())["streams"]
        else:
            listed = [await self.control.stream(name)]
        now = trio.current_time()
        return [(one, self._rates.setdefault(one["name"], Rates()).take(one, now)) for one in listed]

    async def measure(self, name: str | None = None) -> None:
        """Look, and if anything comes in let so much time pass that the next look knows rates."""
        if any(one["publisher"] for one, _ in await self.look(name)):
            await trio.sleep(_REFRESH)

    async def look_around(self) -> None:
        """Ask what is wrong beside the streams; `view` shows what was found last."""
        await self._troubles.look()

    async def view(self) -> RenderableType:
        """All streams: those that have run, or that something is wrong with, in full; the others by name."""
        health, looks = await self.control.health(), await self.look()
        now = datetime.now(UTC)
        title = Text(f"ingestd {health['version']} at {self.control.shown}", "bold")
        title.append(
            f": {len(looks)} stream{'' if len(looks) == 1 else 's'}, {health['live']} live", "default"
        )
        parts: list[RenderableType] = [title]
        parts += [Text(f"! {line}", "yellow") for line in self._troubles.told]
        quiet: list[dict[str, Any]] = []
        for one, rates in looks:
            if one["state"] == "idle" and not warnings(one):
                quiet.append(one)
            else:
                parts += ["", stream_view(one, rates, now)]
        for word, enabled in (("idle", True), ("disabled", False)):
            names = [one["name"] for one in quiet if one.get("enabled", True) is enabled]
            if names:
                parts += ["", Text(f"{word}: {', '.join(names)}", "dim")]
        return Group(*parts)


async def _report(base_url: str) -> dict[str, Any]:
    async with Control(base_url) as control:
        told = {**await control.health(), "url": control.shown, **await control.streams()}
        troubles = Troubles(control)
        await troubles.look()
        return {**told, **troubles.as_json}


async def _once(base_url: str) -> RenderableType:
    async with Control(base_url) as control:
        overview = Overview(control)
        await control.health()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(overview.look_around)
            nursery.start_soon(overview.measure)
        return await overview.view()


async def _watch(base_url: str, as_json: bool) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(_until_signal, nursery.cancel_scope)
        console = Console(highlight=False)
        if as_json:
            async for report in _again(lambda: _report(base_url), _REFRESH_PLAIN):
                if isinstance(report, DaemonUnreachable):
                    click.echo(f"-- {report}; waiting for it", err=True)
                else:
                    click.echo(json.dumps(report))
        async with Control(base_url) as control:
            overview = Overview(control)
            await control.health()
            nursery.start_soon(_look_around, overview)
            if not console.is_terminal or console.is_dumb_terminal:
                async for view in _again(overview.view, _REFRESH_PLAIN):
                    console.print(_or_waiting(view))
            with Live(console=console, auto_refresh=False) as live:
                async for view in _again(overview.view, _REFRESH):
                    live.update(_or_waiting(view), refresh=True)


async def _again(look: Callable[[], Awaitable[T]], pause: float) -> AsyncIterator[T | DaemonUnreachable]:
    """What *look* returns, every *pause* seconds; once it has worked, also that nobody answered."""
    worked = False
    while True:
        found: T | DaemonUnreachable
        try:
            found = await look()
            worked = True
        except DaemonUnreachable as error:
            if not worked:
                raise
            found = error
        yield found
        await trio.sleep(pause)


def _or_waiting(view: RenderableType | DaemonUnreachable) -> RenderableType:
    return Text(f"{view}; waiting for it", "yellow") if isinstance(view, DaemonUnreachable) else view


async def _look_around(overview: Overview) -> None:
    while True:
        await overview.look_around()
        await trio.sleep(_REFRESH_PLAIN)


async def _until_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
