"""``ingestd streams``: the streams of a running daemon, or one of them in full."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ingestd.cli.common import config_option
from ingestd.cli.connect import api_option, api_url, run
from ingestd.cli.status import Overview
from ingestd.cli.view import stream_view, streams_table
from ingestd.client.api import Control, UnknownStream
from ingestd.errors import IngestdError
from ingestd.structure import did_you_mean


@click.command
@click.argument("name", required=False)
@config_option
@api_option
@click.option("--json", "as_json", is_flag=True, help="The API's JSON, for scripts.")
def streams(name: str | None, config_path: Path, url: str | None, as_json: bool) -> None:
    """List the streams of a running daemon, or show stream NAME in full.

    Streams are declared in ingestd.toml. --json prints what the API says: {"streams": [...]}, or one
    object for NAME. Exit status 1 if no daemon answers, or it has no such stream.
    """
    base_url = api_url(url, config_path)
    if as_json:
        click.echo(json.dumps(run(_fetch, base_url, name), indent=2))
        return
    console = Console(highlight=False)
    now = datetime.now(UTC)
    if name is not None:
        status, rates = run(_look, base_url, name)
        console.print(stream_view(status, rates, datetime.now(UTC)))
    elif listed := run(_fetch, base_url, None)["streams"]:
        console.print(streams_table(listed, now))
    else:
        console.print("no streams yet: declare one in ingestd.toml, as [streams.NAME]", markup=False)


async def _fetch(base_url: str, name: str | None) -> dict[str, Any]:
    async with Control(base_url) as control:
        if name is None:
            return {"streams": await control.streams()}
        return await _one(control, name)


async def _look(base_url: str, name: str) -> tuple[dict[str, Any], dict[str, float]]:
    async with Control(base_url) as control:
        await _one(control, name)
        overview = Overview(control)
        await overview.measure(name)
        [look] = await overview.look(name)
        return look


async def _one(control: Control, name: str) -> dict[str, Any]:
    try:
        return await control.stream(name)
    except UnknownStream as error:
        names = [status["name"] for status in await control.streams()]
        hint = did_you_mean(name, names) or f". It has: {', '.join(names) or 'none'}"
        raise IngestdError(f"{error}{hint}") from None
