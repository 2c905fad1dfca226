"""Fetches a recording: to a file beside its place, which it takes when it is complete."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import trio
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ingestd.client.api import ApiError, Control, DaemonUnreachable
from ingestd.errors import IngestdError

#: So often in a row it may break without a byte that came.
_TRIES = 5
_PAUSE = 0.5


def file_name(recording: dict[str, Any]) -> str:
    """What to call the file of *recording*: one part of a path, whatever the daemon says."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", f"{recording['stream']}-{recording['file']}").lstrip(".-")


async def download(control: Control, recording: dict[str, Any], path: Path) -> Path:
    """Fetch the file of *recording* to *path*, or into that directory; the file that it is then.

    It goes on where it was when the connection breaks.

    A bar on stderr if that is a terminal. Raises `IngestdError` if *path* is there already, `OSError`, and
    what `Control` raises. What is cut short leaves nothing.
    """
    if await trio.Path(path).is_dir():
        path /= file_name(recording)
    if await trio.Path(path).exists():
        raise IngestdError(f"{path} is there already: say with --to where else to")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        with part.open("xb") as file, Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(path.name, total=recording["size"], visible=console.is_terminal)
            await _fetch(control, recording["id"], file, lambda done: progress.update(task, completed=done))
        try:
            os.link(part, path)  # unlike a rename it overwrites nothing
        except FileExistsError:
            raise IngestdError(f"{path} is there already: say with --to where else to") from None
        except OSError:  # not every file system has links
            part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return path


async def _fetch(control: Control, identifier: str, file: BinaryIO, tell: Any) -> None:
    tag, tries = "", 0
    while True:
        done = file.tell()
        try:
            if await _once(control, identifier, file, tag, tell):
                return
        except _Broken as error:
            tag = error.tag or tag
        except DaemonUnreachable:
            if not tag:  # it has never answered
                raise
        tries = 0 if file.tell() > done else tries + 1
        if tries >= _TRIES:
            raise DaemonUnreachable(f"the connection to {control.shown} broke again and again")
        await trio.sleep(_PAUSE)


class _Broken(Exception):
    def __init__(self, tag: str) -> None:
        self.tag = tag


async def _once(control: Control, identifier: str, file: BinaryIO, tag: str, tell: Any) -> bool:
    headers = {"Accept-Encoding": "identity"}
    if tag and file.tell():
        headers |= {"Range": f"bytes={file.tell()}-", "If-Range": tag}
    response = await control.open(control.recording_file(identifier, headers))
    try:
        if response.status_code == httpx.codes.OK:
            file.seek(0)
            file.truncate()
        elif response.status_code != httpx.codes.PARTIAL_CONTENT:
            raise ApiError(f"{control.shown}: expected the file of {identifier}, got {response.status_code}")
        async for piece in response.aiter_raw():
            file.write(piece)
            tell(file.tell())
    except httpx.TransportError:
        raise _Broken(response.headers.get("etag", "")) from None
    finally:
        with trio.CancelScope(shield=True):
            await response.aclose()
    return True
