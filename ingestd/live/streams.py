"""The streams of this daemon: who may publish which, and what runs."""

from __future__ import annotations

import hashlib
import hmac

import trio
from attrs import define, field

from ingestd.config import Config, StreamConfig
from ingestd.errors import PublishRefused
from ingestd.live.journal import JournalWriter
from ingestd.live.publication import Item, Publication, Resume
from ingestd.live.session import Session

#: Close codes of a refusal; see ``docs/publishing.md``.
UNKNOWN_KEY = 4401
ALREADY_LIVE = 4409
TOO_MANY_STREAMS = 4429
GOING_AWAY = 1001


@define(eq=False)
class Streams:
    """Admits publishers and runs their sessions in *nursery*: an `ingestd.live.publication.Admission`."""

    config: Config
    ffmpeg: str
    journal_writer: JournalWriter
    nursery: trio.Nursery
    sessions: dict[str, Session] = field(factory=dict)
    draining: bool = False
    _running: set[str] = field(factory=set)

    @property
    def names(self) -> list[str]:
        return sorted(self.config.streams)

    def admit(
        self,
        key: str,
        remote: str,
        *,
        numbered: bool = False,  # noqa: ARG002  not yet
        resume: Resume | None = None,  # noqa: ARG002  not yet
    ) -> Publication:
        """Start a session for the stream of *key*, or raise `PublishRefused`. Never blocks."""
        stream = self._find(key)
        if stream is None:
            raise PublishRefused(UNKNOWN_KEY, "unknown stream key")
        if self.draining:
            raise PublishRefused(GOING_AWAY, "the server is stopping")
        if stream.name in self._running:
            raise PublishRefused(ALREADY_LIVE, "this stream is already live")
        if len(self._running) >= self.config.ingest.max_streams:
            raise PublishRefused(TOO_MANY_STREAMS, "the server has reached its limit of live streams")
        send, receive = trio.open_memory_channel[Item](self.config.ingest.channel)
        publication = Publication(stream.name, remote, send)
        session = Session(
            stream.name,
            self.config,
            self.config.pipelines[stream.pipeline],
            self.ffmpeg,
            self.journal_writer,
            publication,
        )
        self.sessions[stream.name] = session
        self._running.add(stream.name)
        self.nursery.start_soon(self._run, session, receive)
        return publication

    def _find(self, key: str) -> StreamConfig | None:
        """The stream of *key*. Looks at all of them, each in constant time: timing tells nothing."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        found = None
        for stream in self.config.streams.values():
            if hmac.compare_digest(stream.key_sha256, digest):
                found = stream
        return found

    async def _run(self, session: Session, chunks: trio.MemoryReceiveChannel[Item]) -> None:
        try:
            await session.run(chunks)
        finally:
            self._running.discard(session.stream)

    def drain(self) -> None:
        """Admit nobody any more, and end all sessions in order."""
        self.draining = True
        for name in self._running:
            self.sessions[name].stop(GOING_AWAY, "the server is stopping")

    @property
    def live(self) -> int:
        return len(self._running)
