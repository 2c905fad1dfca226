"""``ingestd streams sessions`` and ``recordings``: what streams have left behind."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from ingestd.cli.common import config_option, run
from ingestd.cli.connect import (
    api_option,
    api_url,
    asking,
    echo_json,
    json_option,
    lines_option,
    print_rows,
    sure,
    yes_option,
)
from ingestd.cli.download import download
from ingestd.cli.view import state_text, table
from ingestd.cli.wording import clock, size


@click.command(short_help="List past sessions, and those on air.")
@click.argument("name", required=False)
@click.option("--on-air", is_flag=True, help="Only those that have not ended.")
@lines_option
@config_option
@api_option
@json_option
def sessions(
    name: str | None, on_air: bool, limit: int, config_path: Path, url: str | None, as_json: bool
) -> None:
    """List the last sessions of all streams, or of stream NAME, also of one that was deleted.

    Those on air are up to ten seconds behind "ingestd status".
    """
    wanted = {"stream": name, "on_air": "true" if on_air else None}
    found = run(_sessions, api_url(url, config_path), limit, wanted)
    if as_json:
        echo_json(found)
        return
    rows = table("stream", "session", "state", "ran", "received", "frames", "gaps", "cause")
    for one in found["sessions"]:
        gaps = f"{one['gaps']} ({one['gap_seconds']:.1f} s)" if one["gaps"] else "–"
        rows.add_row(
            Text(one["stream"], "bold"), one["id"], state_text(one["state"]), _ran(one), size(one["bytes"]),
            str(one["frames"]), gaps, one["cause"] or "",
        )  # fmt: skip
    print_rows(rows if found["sessions"] else "no sessions", found)


@click.command(short_help="List recordings; download or delete one.")
@click.argument("name", required=False)
@click.option("--session", metavar="ID", help="Only of this session.")
@click.option("--download", "identifier", metavar="ID", help="Fetch this one instead of listing any.")
@click.option("--to", "path", type=click.Path(path_type=Path), help="The file (or directory) to fetch it to.")
@click.option("--delete", "doomed", metavar="ID", help="Remove this one, with its file, for good.")
@yes_option
@lines_option
@config_option
@api_option
@json_option
def recordings(
    name: str | None,
    session: str | None,
    identifier: str | None,
    path: Path | None,
    doomed: str | None,
    yes: bool,
    limit: int,
    config_path: Path,
    url: str | None,
    as_json: bool,
) -> None:
    """List the last recordings of all streams, or of stream NAME; or download or delete one.

    \b
    ingestd streams recordings studio
    ingestd streams recordings --download 5f0c…                 to studio-20261121T080148.574Z.mkv
    ingestd streams recordings --download 5f0c… --to show.mkv
    ingestd streams recordings --delete 5f0c…

    A download goes on where it was when the connection breaks. No file is overwritten. To delete takes a
    token of scope "admin".
    """  # noqa: D301
    base_url = api_url(url, config_path)
    if doomed is not None:
        if name is not None or session is not None or identifier is not None or path is not None:
            raise click.UsageError("--delete ID goes alone")
        _delete_recording(base_url, doomed, yes=yes, as_json=as_json)
        return
    if identifier is None:
        if path is not None:
            raise click.UsageError("--to says where --download goes: give that, too")
        _list_recordings(base_url, {"stream": name, "session": session}, limit, as_json)
        return
    if name is not None or session is not None:
        raise click.UsageError("--download ID needs neither NAME nor --session")
    told, done = run(_download, base_url, identifier, path)
    if as_json:
        echo_json(told)
    else:
        click.echo(f"{done} ({size(done.stat().st_size)})")


def _delete_recording(base_url: str, identifier: str, *, yes: bool, as_json: bool) -> None:
    if not yes:
        told = run(_recording, base_url, identifier)
        sure(f"Delete {told['file']} of stream {told['stream']} ({size(told['size'])}), for good?")
    run(_delete, base_url, identifier)
    if not as_json:  # The API has no answer to it.
        click.echo(f"{identifier} is deleted")


def _list_recordings(base_url: str, wanted: dict[str, str | None], limit: int, as_json: bool) -> None:
    found = run(_recordings, base_url, limit, wanted)
    if as_json:
        echo_json(found)
        return
    rows = table("id", "stream", "sink", "size", "changed", "file")
    rows.columns[0].min_width = max((len(one["id"]) for one in found["recordings"]), default=0)
    for one in found["recordings"]:
        changed = datetime.fromisoformat(one["changed"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        rows.add_row(
            one["id"], Text(one["stream"], "bold"), one["sink"], size(one["size"]),
            changed if one["finished"] else Text("being written", "green"), one["file"],
        )  # fmt: skip
    print_rows(rows if found["recordings"] else "no recordings", found)


def _ran(session: dict[str, Any]) -> str:
    began = datetime.fromisoformat(session["started"])
    if session["ended"] is None:
        return f"since {began.astimezone():%H:%M:%S}"
    return clock((datetime.fromisoformat(session["ended"]) - began).total_seconds())


async def _sessions(base_url: str, limit: int, wanted: dict[str, str | None]) -> dict[str, Any]:
    async with asking(base_url, wanted["stream"]) as control:
        found = await control.sessions(limit, **wanted)
        if not found["sessions"] and wanted["stream"] is not None:
            await control.stream(wanted["stream"])  # it may be a name that was never there
        return found


async def _recordings(base_url: str, limit: int, wanted: dict[str, str | None]) -> dict[str, Any]:
    async with asking(base_url, wanted["stream"]) as control:
        found = await control.recordings(limit, **wanted)
        if not found["recordings"] and wanted["stream"] is not None:
            await control.stream(wanted["stream"])
        return found


async def _recording(base_url: str, identifier: str) -> dict[str, Any]:
    async with asking(base_url) as control:
        return await control.recording(identifier)


async def _delete(base_url: str, identifier: str) -> None:
    async with asking(base_url) as control:
        await control.delete_recording(identifier)


async def _download(base_url: str, identifier: str, path: Path | None) -> tuple[dict[str, Any], Path]:
    async with asking(base_url) as control:
        told = await control.recording(identifier)
        return told, await download(control, told, path or Path())


COMMANDS = (sessions, recordings)
