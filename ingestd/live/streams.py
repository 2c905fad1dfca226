"""The streams of this daemon: who may publish which, and what runs."""

from __future__ import annotations

import trio
from attrs import define, field

from ingestd.config import Config
from ingestd.errors import PublishRefused
from ingestd.events import Events
from ingestd.live.ingest import Seat
from ingestd.live.journal import JournalWriter
from ingestd.live.publication import GOING_AWAY, RESUME_REFUSED, SESSION_OVER, Item, Publication, Resume
from ingestd.live.rates import EVERY, Rates
from ingestd.live.revival import noted
from ingestd.live.session import Session
from ingestd.live.targets import aimed, without_target
from ingestd.live.writer import Writer
from ingestd.registry.directory import Directory
from ingestd.registry.model import Stream

#: Close codes of a refusal; see ``docs/publishing.md``.
UNKNOWN_KEY = 4401
DISABLED = 4423
ALREADY_LIVE = 4409
TOO_MANY_STREAMS = 4429
TRY_AGAIN = 1013


@define(eq=False)
class Streams:
    """Admits publishers and runs their sessions in *nursery*: an `ingestd.live.publication.Admission`."""

    config: Config
    directory: Directory
    ffmpeg: str
    journal_writer: JournalWriter
    nursery: trio.Nursery
    events: Events = field(factory=Events)
    sessions: dict[str, Session] = field(factory=dict)
    draining: bool = False
    rates: Rates = field(factory=Rates)
    _running: set[str] = field(factory=set)
    _started: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    def __attrs_post_init__(self) -> None:
        self.directory.when_filled.append(self.reaim)

    @property
    def names(self) -> list[str]:
        return self.directory.names

    def admit(
        self,
        key: str,
        remote: str,
        *,
        stream: str | None = None,
        numbered: bool = False,
        resume: Resume | None = None,
    ) -> Publication:
        """A place in a session of the stream of *key*, or raise `PublishRefused`. Never blocks."""
        found = self.directory.find(key) if stream is None else self.directory.get(stream)
        if found is None:
            if not self.directory.loaded:
                raise PublishRefused(TRY_AGAIN, "the streams are not all known yet")
            raise PublishRefused(UNKNOWN_KEY, "unknown stream key")
        if not found.enabled:
            raise PublishRefused(DISABLED, "this stream is disabled")
        if self.draining:
            raise PublishRefused(GOING_AWAY, "the server is stopping")
        session = self._session(found, resume)
        send, receive = trio.open_memory_channel[Item](self.config.ingest.channel)
        publication = Publication(found.name, remote, send)
        session.ingest.attach(Seat(publication, receive, numbered, resume is not None))
        return publication

    def stream_of(self, key: str) -> str | None:
        """The name of the stream of *key*."""
        stream = self.directory.find(key)
        return None if stream is None else stream.name

    def _session(self, stream: Stream, resume: Resume | None) -> Session:
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
        pipeline = aimed(self.config.pipelines[stream.pipeline], stream.targets)
        session = Session(
            stream.name, self.config, pipeline, self.ffmpeg, self.journal_writer, self.events,
            about=noted(stream),
            unaimed=frozenset() if self.directory.loaded else without_target(pipeline),
        )  # fmt: skip
        self.start(session)
        return session

    def start(self, session: Session) -> None:
        """Run *session*, which is its stream's from now on."""
        self.sessions[session.stream] = session
        self._running.add(session.stream)
        self.nursery.start_soon(self._run, session)
        self._started.unpark_all()

    async def wait_session(self, name: str, after: Session | None = None) -> Session:
        """Wait until the stream *name* has a session that runs, other than *after*."""
        while (session := self.running(name)) is None or session is after:
            await self._started.park()
        return session

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            self._running.discard(session.stream)
            if self.directory.get(session.stream) is None:
                self.forget(session.stream)

    def forget(self, name: str) -> None:
        """Let go of the last session of *name*, a stream that is no more, unless it still runs."""
        if name not in self._running:
            self.sessions.pop(name, None)

    def running(self, name: str) -> Session | None:
        """The session of the stream *name* if it has not ended."""
        return self.sessions.get(name) if name in self._running else None

    @property
    def on_air(self) -> list[Session]:
        """The sessions that have not ended."""
        return [self.sessions[name] for name in self._running]

    def reaim(self) -> None:
        """Have sinks push where the directory now says: those with another target than before begin anew.

        A session of another pipeline than its stream's goes on with what it was begun with.
        """
        for session in self.on_air:
            stream = self.directory.get(session.stream)
            if session.unaimed or (stream is not None and stream.pipeline == session.pipeline.id):
                targets = stream.targets if stream is not None else ()
                pipeline = aimed(self.config.pipelines[session.pipeline.id], targets)
                session.aim(pipeline, noted(stream) if stream is not None else session.about)

    def end(self, name: str, cause: str, code: int = 1000) -> bool:
        """End the session of the stream *name* in order; False if it has none that could be ended.

        Its publisher is told *code*, one of this module's or 1000.
        """
        session = self.running(name)
        if session is None or session.ingest.over:
            return False
        session.cause = session.cause or cause
        session.ingest.close(code, cause)
        return True

    async def measure(self) -> None:
        """Note how fast the media of each session comes in, until cancelled."""
        while True:
            self.rates.measure([self.sessions[name] for name in self._running], trio.current_time())
            await trio.sleep(EVERY)

    def restart(self, name: str, sink: str) -> bool:
        """Have the FFmpeg of *sink* end and begin anew; False if it has none, or has failed for good."""
        session = self.running(name)
        for run in session.sinks if session else ():
            if run.sink.name == sink and isinstance(run, Writer) and run.supervisor is not None:
                return run.supervisor.restart()
        return False

    def drain(self) -> None:
        """Admit nobody any more, and end all sessions in order, or hand them over."""
        self.draining = True
        for session in self.on_air:
            if self.config.shutdown.sessions == "hand_over":
                session.hand_over()
            else:
                session.stop(GOING_AWAY, "the server is stopping")

    @property
    def live(self) -> int:
        return len(self._running)
