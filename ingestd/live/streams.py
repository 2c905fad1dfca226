"""The streams of this daemon: who may publish which, and what runs."""

from __future__ import annotations

import hashlib
import hmac

import trio
from attrs import define, field

from ingestd.config import Config, StreamConfig
from ingestd.errors import PublishRefused
from ingestd.live.ingest import Seat
from ingestd.live.journal import JournalWriter
from ingestd.live.publication import RESUME_REFUSED, SESSION_OVER, Item, Publication, Resume
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
        numbered: bool = False,
        resume: Resume | None = None,
    ) -> Publication:
        """A place in a session of the stream of *key*, or raise `PublishRefused`. Never blocks."""
        stream = self._find(key)
        if stream is None:
            raise PublishRefused(UNKNOWN_KEY, "unknown stream key")
        if self.draining:
            raise PublishRefused(GOING_AWAY, "the server is stopping")
        session = self._session(stream, resume)
        send, receive = trio.open_memory_channel[Item](self.config.ingest.channel)
        publication = Publication(stream.name, remote, send)
        session.ingest.attach(Seat(publication, receive, numbered, resume is not None))
        return publication

    def stream_of(self, key: str) -> str | None:
        """The name of the stream of *key*."""
        stream = self._find(key)
        return None if stream is None else stream.name

    def _session(self, stream: StreamConfig, resume: Resume | None) -> Session:
        """The session that a publisher of *stream* comes to: the one that runs, or a new one."""
        session = self.sessions.get(stream.name)
        running = session is not None and stream.name in self._running
        if resume is not None:
            if session is None or session.id != resume.session or not session.ingest.authorises(resume.token):
                raise PublishRefused(RESUME_REFUSED, "there is no such session, or the token is not its own")
            if not running or session.ingest.over:
                raise PublishRefused(SESSION_OVER, "the session is over: begin a new one")
            return session
        if session is not None and running:
            if session.ingest.over:
                raise PublishRefused(ALREADY_LIVE, "this stream's last session is still being finished")
            if session.ingest.taken and session.pipeline.publisher.second == "refuse":
                raise PublishRefused(ALREADY_LIVE, "this stream is already live")
            return session
        if len(self._running) >= self.config.ingest.max_streams:
            raise PublishRefused(TOO_MANY_STREAMS, "the server has reached its limit of live streams")
        pipeline = self.config.pipelines[stream.pipeline]
        session = Session(stream.name, self.config, pipeline, self.ffmpeg, self.journal_writer)
        self.start(session)
        return session

    def start(self, session: Session) -> None:
        """Run *session*, which is its stream's from now on."""
        self.sessions[session.stream] = session
        self._running.add(session.stream)
        self.nursery.start_soon(self._run, session)

    def _find(self, key: str) -> StreamConfig | None:
        """The stream of *key*. Looks at all of them, each in constant time: timing tells nothing."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        found = None
        for stream in self.config.streams.values():
            if hmac.compare_digest(stream.key_sha256, digest):
                found = stream
        return found

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            self._running.discard(session.stream)

    def drain(self) -> None:
        """Admit nobody any more, and end all sessions in order, or hand them over."""
        self.draining = True
        for name in self._running:
            if self.config.shutdown.sessions == "hand_over":
                self.sessions[name].hand_over()
            else:
                self.sessions[name].stop(GOING_AWAY, "the server is stopping")

    @property
    def live(self) -> int:
        return len(self._running)
