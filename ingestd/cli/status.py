"""``ingestd status``: what a running daemon does, sink by sink."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import trio
from attrs import define, field
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ingestd.cli.common import config_option
from ingestd.cli.connect import api_option, api_url, run
from ingestd.cli.rates import Rates
from ingestd.cli.view import stream_view
from ingestd.client.api import Control

_REFRESH = 1.0
_REFRESH_PLAIN = 2.0


@click.command
@config_option
@api_option
@click.option("-w", "--watch", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for scripts; with --watch one line every 2 s.")
def status(config_path: Path, url: str | None, watch: bool, as_json: bool) -> None:
    """Show what a running daemon does: each stream, its encoder and its sinks.

    Bit rates are measured for a second, so this takes one. Exit status 1 if no daemon answers.
    """
    base_url = api_url(url, config_path)
    if watch:
        run(_watch, base_url, as_json)
    elif as_json:
        click.echo(json.dumps(run(_report, base_url), indent=2))
    else:
        Console(highlight=False).print(run(_once, base_url))


@define(eq=False)
class Overview:
    """Looks at a daemon again and again, and remembers what it takes to tell rates."""

    control: Control
    _rates: dict[str, Rates] = field(factory=dict)

    async def look(self, name: str | None = None) -> list[tuple[dict[str, Any], dict[str, float]]]:
        """Each stream's status (or only that of *name*) with its rates since the looks before."""
        listed = await self.control.streams() if name is None else [await self.control.stream(name)]
        now = trio.current_time()
        return [(one, self._rates.setdefault(one["name"], Rates()).take(one, now)) for one in listed]

    async def measure(self, name: str | None = None) -> None:
        """Look, and if anything comes in let so much time pass that the next look knows rates."""
        if any(one["publisher"] for one, _ in await self.look(name)):
            await trio.sleep(_REFRESH)

    async def view(self) -> RenderableType:
        """All streams: those that have run in full, the idle ones by name."""
        health, looks = await self.control.health(), await self.look()
        now = datetime.now(UTC)
        title = Text(f"ingestd {health['version']} at {self.control.shown}", "bold")
        title.append(
            f": {len(looks)} stream{'' if len(looks) == 1 else 's'}, {health['live']} live", "default"
        )
        parts: list[RenderableType] = [title]
        for one, rates in looks:
            if one["state"] != "idle":
                parts += ["", stream_view(one, rates, now)]
        if idle := [one["name"] for one, _ in looks if one["state"] == "idle"]:
            parts += ["", Text(f"idle: {', '.join(idle)}", "dim")]
        return Group(*parts)


async def _report(base_url: str) -> dict[str, Any]:
    async with Control(base_url) as control:
        return {**await control.health(), "url": control.shown, "streams": await control.streams()}


async def _once(base_url: str) -> RenderableType:
    async with Control(base_url) as control:
        overview = Overview(control)
        await overview.measure()
        return await overview.view()


async def _watch(base_url: str, as_json: bool) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(_until_signal, nursery.cancel_scope)
        console = Console(highlight=False)
        if as_json:
            while True:
                click.echo(json.dumps(await _report(base_url)))
                await trio.sleep(_REFRESH_PLAIN)
        async with Control(base_url) as control:
            overview = Overview(control)
            if not console.is_terminal or console.is_dumb_terminal:
                while True:
                    console.print(await overview.view())
                    await trio.sleep(_REFRESH_PLAIN)
            with Live(console=console, auto_refresh=False) as live:
                while True:
                    live.update(await overview.view(), refresh=True)
                    await trio.sleep(_REFRESH)


async def _until_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
