"""``ingestd streams link`` and ``simulcast``: how a stream gets to those who watch it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ingestd.cli.common import config_option, quantity, run
from ingestd.cli.connect import api_option, api_url, asking, echo_json, json_option, print_rows
from ingestd.cli.stream_options import read_key
from ingestd.cli.view import labelled, table
from ingestd.units import parse_duration


@click.command(short_help="Sign a link to watch one.")
@click.argument("name")
@click.option(
    "--for", "lasting", metavar="DURATION", default="1h", show_default=True,
    callback=quantity(parse_duration), help="How long it is good, at most auth.max_link.",
)  # fmt: skip
@click.option("--address", metavar="IP", help="Good for the client at this address only.")
@config_option
@api_option
@json_option
def link(
    name: str, lasting: float, address: str | None, config_path: Path, url: str | None, as_json: bool
) -> None:
    """Sign a link by which stream NAME can be watched, where auth.playback is "signed".

    \b
    ingestd streams link studio --for 3h
    ffplay "$(ingestd streams link studio --json | jq -r .hls_url)"

    Who has it can hand it on. It is good until it expires or the stream is deleted; a new playback key
    ends all.
    """  # noqa: D301
    wanted = {"expires_in": lasting, **({} if address is None else {"address": address})}
    made = run(_link, api_url(url, config_path), name, wanted)
    if as_json:
        echo_json(made)
        return
    console = Console(highlight=False)
    for label, text in (("HLS", made["hls_url"]), ("watch", made["watch_url"])):
        if text:
            console.print(labelled(label, Text(text)), soft_wrap=True)
    until = made["expires"] or "never: everybody may watch"
    console.print(labelled("expires", Text(until)), soft_wrap=True)


@click.command(short_help="Where Mux pushes one on to.")
@click.argument("name")
@click.option("--add", "target_url", metavar="URL", help="Have Mux push it on to this URL.")
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    help='With --add: the key there is in FILE, or on standard input for "-".',
)
@click.option("--remove", "identifier", metavar="ID", help="Have Mux push it there no more.")
@config_option
@api_option
@json_option
def simulcast(
    name: str,
    target_url: str | None,
    key_file: str | None,
    identifier: str | None,
    config_path: Path,
    url: str | None,
    as_json: bool,
) -> None:
    """List where Mux pushes stream NAME on to; add a target, or remove one.

    \b
    ingestd streams simulcast studio
    ingestd streams simulcast studio --add rtmps://a.rtmps.youtube.com/live2 --key youtube.key
    ingestd streams simulcast studio --remove target-12

    Mux lets targets be changed only while nobody publishes. A target of the daemon's own, which needs no
    Mux, is a sink of the pipeline (streams create --target). To change them takes a token of scope "admin".
    """  # noqa: D301
    if (target_url is None) != (key_file is None):
        raise click.UsageError("--add URL and --key FILE go together")
    if target_url is not None and identifier is not None:
        raise click.UsageError("give --add or --remove, one at a time")
    base_url = api_url(url, config_path)
    if identifier is not None:
        run(_remove, base_url, name, identifier)
        if not as_json:  # The API has no answer to it.
            click.echo(f"{identifier} of {name} is removed")
        return
    if target_url is not None:
        key = read_key(key_file or "", "the file", "--key", "--key FILE")
        made = run(_add, base_url, name, target_url, key)
        if as_json:
            echo_json(made)
        else:
            click.echo(f"{name} is pushed on to {made['url']} as {made['id']}")
        return
    found = run(_list, base_url, name)
    if as_json:
        echo_json(found)
        return
    rows = table("id", "status", "url")
    for one in found["simulcast"]:
        rows.add_row(one["id"], one["status"], one["url"] or "–")
    print_rows(rows if found["simulcast"] else "no targets at Mux", found)


async def _link(base_url: str, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    async with asking(base_url, name) as control:
        return await control.link(name, wanted)


async def _list(base_url: str, name: str) -> dict[str, Any]:
    async with asking(base_url, name) as control:
        return await control.simulcast(name)


async def _add(base_url: str, name: str, url: str, key: str) -> dict[str, Any]:
    async with asking(base_url, name) as control:
        return await control.add_simulcast(name, url, key)


async def _remove(base_url: str, name: str, identifier: str) -> None:
    async with asking(base_url, name) as control:
        await control.remove_simulcast(name, identifier)


COMMANDS = (link, simulcast)
