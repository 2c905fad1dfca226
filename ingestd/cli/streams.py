"""``ingestd streams``: make, list, show, steer and delete the streams of a running daemon."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from ingestd.cli import history, passing, steering, stream_changes
from ingestd.cli.common import config_option, run
from ingestd.cli.connect import api_option, api_url, asking, echo_json, json_option
from ingestd.cli.details import stream_details
from ingestd.cli.status import Overview
from ingestd.cli.view import stream_view, streams_table, warnings
from ingestd.live.shapes import State
from ingestd.structure import did_you_mean

#: Options that have a value and may come before the command.
_VALUED = ("-c", "--config", "--url")


class _Group(click.Group):
    """Without a command it is ``list``, and a name that is no command is a stream's to ``show``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command in front, whatever options were before it."""
        if not args or args[0] not in ("-h", "--help"):
            args = self._in_front(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """In the order in which one meets them."""
        return list(self.commands)

    def _in_front(self, args: list[str]) -> list[str]:
        count = 0
        while count < len(args) and args[count].startswith("-"):
            count += 2 if args[count] in _VALUED else 1
        if count >= len(args):
            return ["list", *args]
        name, rest = args[count], [*args[:count], *args[count + 1 :]]
        if name in self.commands:
            return [name, *rest]
        options = [option for option in args[:count] if option.startswith("-")]
        if not all(option.startswith(("--json", *_VALUED)) for option in options):
            return ["list", *args]  # a filter and its value
        near = did_you_mean(name, self.commands)
        if near and args[count + 1 : count + 2] and not args[count + 1].startswith("-"):
            raise click.UsageError(f'There is no command "{name}"{near}')
        return ["show", name, *rest]


@click.group(cls=_Group, no_args_is_help=False, subcommand_metavar="[COMMAND|NAME] [ARGS]...")
def streams() -> None:
    """List, make and steer the streams of a running daemon.

    \b
    ingestd streams                      all of them, as a table
    ingestd streams studio               one in full (as "show studio")
    ingestd streams create studio --pipeline hls
                                         a new one: prints its key and where to publish, once
    ingestd streams stop studio          end its session
    ingestd streams link studio          a link to watch it, where they are signed
    ingestd streams recordings studio    what was recorded

    \b
    For scripts every command takes --json, which prints what the HTTP API answers:
      key=$(ingestd streams create --json | jq -r .key)
      ingestd streams list --json --state live | jq -r '.streams[].name'

    To list and look takes a token of scope "read" in $INGESTD_TOKEN where the daemon wants one, create
    (without --target-url) and stop one of "publish", all else "admin". Exit status: 0 done, 1 refused or no
    daemon answers, 2 wrong usage.
    """  # noqa: D301  \b is click's mark for lines that stay as they are


@streams.command("list", short_help="List the streams, or some of them.")
@click.option(
    "--state", "states", type=click.Choice(get_args(State)), multiple=True, help="Only in this; repeatable."
)
@click.option("--pipeline", metavar="ID", help="Only of this pipeline.")
@click.option("--label", "labels", metavar="KEY[=VALUE]", multiple=True, help="Only with this; repeatable.")
@click.option("-q", "--q", metavar="TEXT", help="Only with this in the name or title.")
@config_option
@api_option
@json_option
def list_streams(
    states: tuple[str, ...],
    pipeline: str | None,
    labels: tuple[str, ...],
    q: str | None,
    config_path: Path,
    url: str | None,
    as_json: bool,
) -> None:
    """List the streams: those of ingestd.toml, and those that were made through the API.

    \b
    ingestd streams list --state live --state interrupted
    ingestd streams list --label customer=42 --json
    """  # noqa: D301
    wanted = {"state": states, "pipeline": pipeline, "label": labels, "q": q}
    listed = run(_list, api_url(url, config_path), wanted)
    if as_json:
        echo_json(listed)
        return
    console, found = Console(highlight=False), listed["streams"]
    if found:
        console.print(streams_table(found, datetime.now(UTC)))
        for status in found:
            for warning in warnings(status):
                console.print(f"{status['name']}: {warning}", style="yellow", markup=False)
    elif any(wanted.values()):
        console.print("no such streams")
    elif listed["complete"]:
        text = 'no streams yet: make one with "ingestd streams create", or declare it in ingestd.toml'
        console.print(text, markup=False)
    if not listed["complete"]:
        console.print(
            "its database is away: those that were made through the API are not known yet", style="yellow"
        )


@streams.command(short_help="Show one in full.")
@click.argument("name")
@config_option
@api_option
@json_option
def show(name: str, config_path: Path, url: str | None, as_json: bool) -> None:
    """Show stream NAME in full: what it is, and what its session does.

    \b
    ingestd streams show studio
    ingestd streams show studio --json | jq -r '.playback[].url'
    """  # noqa: D301
    base_url = api_url(url, config_path)
    if as_json:
        echo_json(run(_show, base_url, name))
        return
    status, rates = run(_look, base_url, name)
    console = Console(highlight=False)
    console.print(stream_view(status, rates, datetime.now(UTC)))
    console.print(stream_details(status), soft_wrap=True)


for module in (stream_changes, steering, passing, history):
    for command in module.COMMANDS:
        streams.add_command(command)


async def _list(base_url: str, wanted: dict[str, str | Sequence[str] | None]) -> dict[str, Any]:
    async with asking(base_url) as control:
        return await control.streams(**wanted)


async def _show(base_url: str, name: str) -> dict[str, Any]:
    async with asking(base_url, name, streams.commands) as control:
        return await control.stream(name)


async def _look(base_url: str, name: str) -> tuple[dict[str, Any], dict[str, float]]:
    async with asking(base_url, name, streams.commands) as control:
        overview = Overview(control)
        await overview.measure(name)
        [look] = await overview.look(name)
        return look
