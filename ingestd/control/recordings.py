"""``/v1/recordings``: which there are, and the files themselves."""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import quote

import structlog
import trio
from msgspec import UNSET
from quart import Blueprint, Response
from sqlalchemy import Connection

from ingestd.control.contract import Answer, Routes, ok
from ingestd.control.desk import Desk
from ingestd.control.errors import Refusal
from ingestd.control.files import file_response, regular_size
from ingestd.control.shapes import RecordingList, RecordingListing, RecordingTold
from ingestd.live import library
from ingestd.live.status import rfc3339
from ingestd.registry.model import RecordingRow
from ingestd.registry.paging import BadCursor
from ingestd.registry.recordings import drop_recordings, find_recording, list_recordings

log = structlog.get_logger(__name__)

_ID = re.compile(r"[0-9a-f]{8,64}")
_OTHER = "application/octet-stream"
_MEDIA = ", ".join([*dict.fromkeys(library.MEDIA_TYPES.values()), _OTHER])


def blueprint(desk: Desk) -> Blueprint:
    routes = Routes("recordings", "Sessions and recordings")
    database = desk.registry.database
    state = desk.streams.config.storage.state_dir

    async def find(recording: str) -> RecordingRow:
        row = await database.read(find_recording, recording) if _ID.fullmatch(recording) else None
        if row is None:
            raise Refusal(404, "there is no such recording")
        return row

    @routes.get(
        "/v1/recordings", "List recordings", scope="read", query=RecordingListing,
        answers=[ok(RecordingList)], problems=(503,),
    )  # fmt: skip
    async def listing(query: RecordingListing) -> RecordingList:
        """Those that changed last come first."""
        ask = partial(
            list_recordings, stream=query.stream, session=query.session, finished=query.finished,
            limit=query.limit, cursor=query.cursor,
        )  # fmt: skip
        try:
            page = await database.read(ask)
        except BadCursor as error:
            raise Refusal(400, f"cursor: {error}") from None
        return RecordingList([_told(row) for row in page.items], page.next or UNSET)

    @routes.get(
        "/v1/recordings/<recording>", "Show a recording", scope="read", answers=[ok(RecordingTold)],
        problems=(404, 503),
    )  # fmt: skip
    async def show(recording: str) -> RecordingTold:
        """The file itself is at `/v1/recordings/{recording}/file`."""
        return _told(await find(recording))

    @routes.get(
        "/v1/recordings/<recording>/file", "Download a recording", scope="read", problems=(404, 416, 503),
        answers=[
            Answer(
                status=200, about="The file.", media=_MEDIA,
                headers={"Content-Disposition": "The name to save it as.", "Accept-Ranges": "bytes"},
            ),
            Answer(status=206, about="A part of it (`Range`).", media=_MEDIA),
            Answer(status=304, about="It is as the client has it.", media=None),
        ],
    )  # fmt: skip
    async def download(recording: str) -> Response:
        """With ETag, conditional requests and single ranges, so that players can seek and downloads go on."""
        row = await find(recording)
        path = await trio.to_thread.run_sync(library.path_of, state, row)
        found = await regular_size(trio.Path(path)) if path is not None else None
        if path is None or found is None:
            raise Refusal(404, "the file of this recording is not there (any more)")
        media = library.MEDIA_TYPES.get(path.suffix, _OTHER)
        response = await file_response(trio.Path(path), found, media, "private, no-cache")
        response.headers["Content-Disposition"] = _disposition(row)
        return response

    gone = Answer(status=204, about="It is gone.", media=None)

    @routes.route(
        "delete", "/v1/recordings/<recording>", "Delete a recording", scope="admin", answers=[gone],
        problems=(404, 409, 503),
    )  # fmt: skip
    async def delete(recording: str) -> tuple[None, int]:
        """The file goes, for good."""
        row = await find(recording)
        if not row.finished:
            raise Refusal(409, "this recording is still being written: stop the stream first")

        def remove(connection: Connection) -> None:
            drop_recordings(connection, [row.id])
            if not library.remove(state, row):
                raise Refusal(409, "the file is no longer as it was made: remove it by hand")

        try:
            await database.run(remove)
        except OSError as error:
            raise Refusal(409, f"the file cannot be removed: {error.strerror}") from None
        log.info("recording_removed", stream=row.stream, sink=row.sink, file=row.file, reason="asked for")
        desk.streams.events.tell(
            "recording.removed", row.stream, session=row.session, name=row.sink, file=row.file, size=row.size
        )
        return None, 204

    return routes.blueprint


def _told(row: RecordingRow) -> RecordingTold:
    return RecordingTold(
        id=row.id,
        stream=row.stream,
        session=row.session,
        sink=row.sink,
        file=row.file,
        size=row.size,
        changed=rfc3339(row.changed),
        finished=row.finished,
    )


def _disposition(row: RecordingRow) -> str:
    """RFC 6266: an ASCII name for all, and the right one for those who know more."""
    name = f"{row.stream}-{row.file.replace('/', '-')}"
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
