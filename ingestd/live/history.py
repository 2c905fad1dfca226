"""What the registry learns of sessions and recordings: rows for its ledger, as things happen."""

from __future__ import annotations

import time
from collections.abc import Iterator

import trio
from attrs import define, frozen

from ingestd.config import Config
from ingestd.events import Event
from ingestd.live.catalog import Catalog, Entry
from ingestd.live.session import Session
from ingestd.live.state import StreamState
from ingestd.live.streams import Streams
from ingestd.registry.ledger import Ledger
from ingestd.registry.model import RecordingRow, SessionRow
from ingestd.registry.recordings import recording_id

_NS = 10**9
#: Seconds between two rows of a session to which nothing happens.
_EVERY = 10.0


@define(eq=False)
class History:
    """Tells *ledger* of what *streams* do, at each event and every few seconds."""

    streams: Streams
    ledger: Ledger

    async def run(self) -> None:
        """Tell of all sessions now and every few seconds, and of each as something happens to it."""
        self.streams.events.listen(self._hear)
        while True:
            for session in self.streams.on_air:
                self.ledger.session(session_row(session))
            await trio.sleep(_EVERY)

    def live(self) -> list[tuple[str, str]]:
        """Stream and id of each session that has not ended."""
        return [(session.stream, session.id) for session in self.streams.on_air]

    def _hear(self, event: Event) -> None:
        session = self.streams.sessions.get(event.stream)
        own = session is not None and session.id == event.data.get("session")
        if session is not None and own and event.type.startswith("stream."):
            self.ledger.session(session_row(session))
        elif event.type == "recording.ready":
            data = event.data
            row = RecordingRow(
                id=recording_id(event.stream, data["file"]), stream=event.stream, session=data["session"],
                sink=data["name"], file=data["file"], size=data["size"], changed=event.at, finished=True,
            )  # fmt: skip
            self.ledger.recording(row)
        elif event.type == "recording.removed":
            self.ledger.forget_recording(event.stream, event.data["file"])


def session_row(session: Session) -> SessionRow:
    """How *session* stands."""
    ingest, source = session.ingest, session.source
    over = session.state in (StreamState.ENDED, StreamState.FAILED)
    return SessionRow(
        id=session.id,
        stream=session.stream,
        pipeline=session.pipeline.id,
        state=session.state.value,
        started=session.started,
        ended=session.since if over else None,
        cause=session.cause,
        chunks=ingest.chunks,
        bytes=ingest.size,
        frames=source.hub.next_seq if source is not None else 0,
        gaps=ingest.gap_count,
        gap_seconds=ingest.gap_seconds,
        updated=time.time(),
    )


@frozen(slots=True)
class OnDisk:
    """The finished recordings of all streams, deleted ones too, as their lists have them. Blocks."""

    config: Config

    def __call__(self) -> list[RecordingRow]:
        """One row a file; whose session it was, only the registry knows."""
        return list(self._rows())

    def _rows(self) -> Iterator[RecordingRow]:
        state = self.config.storage.state_dir
        for path in sorted((state / "catalog").glob("*/*.jsonl")):
            stream = path.parent.name
            for entry in Catalog(path, state / "recordings" / stream).finished():
                yield _row(stream, path.stem, entry)


def _row(stream: str, sink: str, entry: Entry) -> RecordingRow:
    return RecordingRow(
        id=recording_id(stream, entry.name), stream=stream, sink=sink, file=entry.name,
        size=entry.size, changed=entry.changed / _NS, finished=True,
    )  # fmt: skip
