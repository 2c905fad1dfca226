"""A session: one stream's live run, from its publisher's first byte to the last byte of its last sink.

Its nursery tree:

    session
     ├ ingest            publishers' chunks → journal → source hub
     ├ trim              gives journal space back behind the slowest reader
     ├ notices           tells the publisher how it stands
     ├ encoder           source hub → program hub           (unless the plan is to copy)
     └ one task a sink   program hub → its target

The end runs through it like the media: no publisher comes any more, so the source hub ends, so the
encoder ends, so the program hub ends, so the sinks end. When the daemon stops, a deadline bounds it.

It outlives the daemon: all that is needed to go on is in its journal directory, and `ingestd.live.revival`
makes the session of it again.
"""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import structlog
import trio
from attrs import define, field

from ingestd.config import Config, Pipeline
from ingestd.errors import FatalFailure, IngestdError, MediaError, leaves
from ingestd.events import Events
from ingestd.live.encoder import Encoder
from ingestd.live.hub import Hub
from ingestd.live.ingest import MEDIA_REFUSED, Ingest
from ingestd.live.journal import Journal, JournalFull, JournalWriter
from ingestd.live.notes import Notes
from ingestd.live.notices import Notices
from ingestd.live.plan import Plan, is_raw, plan
from ingestd.live.publication import GOING_AWAY, INTERNAL_ERROR, SESSION_FAILED, Notice
from ingestd.live.raw import RawRecording
from ingestd.live.recording import Recording
from ingestd.live.resume import notes_of
from ingestd.live.retention import make_place, place_of
from ingestd.live.slate import Absence, encode_loop
from ingestd.live.spool import Spool
from ingestd.live.state import StreamState
from ingestd.live.supervisor import Health, State
from ingestd.live.writer import Writer
from ingestd.sinks.base import Place, Sink
from ingestd.sinks.file import FileSink

log = structlog.get_logger(__name__)

SinkRun = Writer | Recording | RawRecording


@define(eq=False)
class Session:
    """*ffmpeg* is the binary to run. `run` is the whole life; the rest is for those who look on.

    *saved* is what an earlier daemon noted of it, *about* what this one notes of the stream
    (`ingestd.live.revival`); *unaimed* are the sinks that wait for `aim`.
    """

    stream: str
    config: Config
    pipeline: Pipeline
    ffmpeg: str
    journal_writer: JournalWriter
    events: Events = field(factory=Events)
    state: StreamState = StreamState.CONNECTING
    since: float = field(factory=time.time)
    started: float = field(factory=time.time)
    cause: str | None = None
    failed: bool = False
    source: Spool | None = None
    program: Hub | None = None
    plan: Plan | None = None
    encoder: Encoder | None = None
    sinks: list[SinkRun] = field(factory=list)
    id: str = field(factory=lambda: datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")[:-4] + "Z")
    saved: dict[str, Any] | None = None
    about: dict[str, Any] = field(factory=dict)
    unaimed: frozenset[str] = frozenset()
    ingest: Ingest = field(init=False)
    #: Set once *source* is there, or will never be.
    begun: trio.Event = field(factory=trio.Event)
    _absence: Absence = field(factory=Absence)
    _ending: Literal["end", "hand_over"] | None = None
    _stopping: trio.Event = field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        window = self.pipeline.publisher.reconnect_window
        ack = self.config.journal.ack
        self.ingest = Ingest(self.stream, self.id, window, self._present, self._save, ack)
        if self.saved is not None:
            self.state, self.started = StreamState.INTERRUPTED, self.saved["started"]
            self.ingest.structure(self.saved["ingest"])
            self._absence.tell(present=False)
            if self.saved["done"]:
                self.ingest.close(1000, "the session has ended")

    @property
    def directory(self) -> Path:
        """Where its journals are, and all that a later daemon must know."""
        return self.config.storage.state_dir / "journal" / self.stream / self.id

    async def run(self) -> None:
        """Live from the first chunk until all is written. Raises nothing that it can name.

        Cancellation is the hard end: children are ended, files closed, nothing is waited for.
        """
        if self.saved is None:
            log.info("session_started", stream=self.stream, session=self.id, pipeline=self.pipeline.id)
        else:
            log.warning("session_taken_up", stream=self.stream, session=self.id, pipeline=self.pipeline.id)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deadline, nursery.cancel_scope)
                await self._run()
                nursery.cancel_scope.cancel()
        except Exception as error:
            # A defect of ours in one session: its stream is down, and said to be; the others go on.
            log.exception("session_crashed", stream=self.stream, session=self.id)
            self.fail(INTERNAL_ERROR, f"internal error: {type(leaves(error)[0]).__name__}")
        finally:
            self.begun.set()
            self.ingest.close(1000, "the session has ended")
            if self._handed_over:
                self._enter(StreamState.INTERRUPTED)
                log.info("session_handed_over", stream=self.stream, session=self.id)
            else:
                self._enter(StreamState.FAILED if self.failed else StreamState.ENDED)
                log.info(
                    "session_ended", stream=self.stream, session=self.id, chunks=self.ingest.chunks,
                    bytes=self.ingest.size, seconds=round(time.time() - self.started, 1), cause=self.cause,
                )  # fmt: skip

    @property
    def _handed_over(self) -> bool:
        return self._ending == "hand_over" and not self.failed

    def stop(self, code: int, reason: str) -> None:
        """End the session because the daemon stops: in order, but within ``shutdown.timeout``."""
        self._ending = self._ending or "end"
        self.ingest.close(code, reason)
        self._stopping.set()

    def hand_over(self) -> None:
        """Stop in order, finish nothing, and leave the session to the next daemon."""
        if not self.failed and not self.ingest.over:
            self._ending = "hand_over"
            if self.ingest.publication is not None:
                self.ingest.publication.tell(Notice("drain", {"reason": "the server restarts"}))
            self.stop(GOING_AWAY, "the server restarts: reconnect, and go on")
        else:
            self.stop(GOING_AWAY, "the server is stopping")

    def fail(self, code: int, cause: str) -> None:
        """End the session, which counts as failed with *cause* (the first one stands)."""
        if not self.failed:
            self.failed, self.cause = True, cause
            log.error("session_failed", stream=self.stream, session=self.id, cause=cause)
        self.ingest.close(code, cause)

    def aim(self, pipeline: Pipeline, about: dict[str, Any]) -> None:
        """Go on with *pipeline*, which is the same but for the targets of its sinks."""
        self.pipeline, self.about, self.unaimed = pipeline, about, frozenset()
        sinks = {sink.name: sink for sink in pipeline.sinks}
        for run in self.sinks:
            if isinstance(run, Writer):
                run.aim(sinks[run.sink.name])

    def _enter(self, state: StreamState) -> None:
        if self.state is not state:
            back = self.state is StreamState.INTERRUPTED and state is StreamState.LIVE
            self.state, self.since = state, time.time()
            log.info("stream_state", stream=self.stream, state=state.value)
            change = "resumed" if back else state.value
            self.tell(f"stream.{change}", pipeline=self.pipeline.id, cause=self.cause)

    def tell(self, what: str, /, **data: object) -> None:
        """Something happened to this session: an `ingestd.events.Tell`."""
        self.events.tell(what, self.stream, session=self.id, **data)

    def _health(self, name: str, kind: Literal["sink", "encoder"] = "sink") -> Health:
        return Health(self.stream, name, kind=kind, tell=self.tell)

    def _present(self, present: bool) -> None:
        """A publisher has come, or was lost."""
        self._absence.tell(present=present)
        if present:
            self._enter(StreamState.LIVE if self.program is not None else StreamState.CONNECTING)
        else:
            self._enter(StreamState.INTERRUPTED)

    async def _deadline(self, scope: trio.CancelScope) -> None:
        # Nothing hurries an end but the daemon's own: what lags has acknowledged media still to write.
        await self._stopping.wait()
        await trio.sleep(self.config.shutdown.timeout)
        log.error("session_end_overdue", stream=self.stream, timeout_s=self.config.shutdown.timeout)
        self.fail(SESSION_FAILED, "the end took longer than shutdown.timeout and was cut short")
        scope.cancel()

    async def _run(self) -> None:
        journals: list[Journal] = []
        try:
            if self.saved is None:
                await trio.to_thread.run_sync(lambda: self.directory.mkdir(parents=True, mode=0o750))
                await self._save()
            self.source = await self._spool("source", journals)
            self.begun.set()
        except (OSError, IngestdError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self.fail(SESSION_FAILED, f"the journal cannot be begun: {why}")
            if self.saved is None:
                await trio.to_thread.run_sync(lambda: shutil.rmtree(self.directory, ignore_errors=True))
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.source.trim_forever)
                nursery.start_soon(self._notices(self.source).run)
                async with trio.open_nursery() as live:
                    live.start_soon(self._ingest, self.source, nursery.cancel_scope)
                    try:
                        await self._start(live, self.source, journals, nursery)
                    except (OSError, IngestdError) as error:
                        why = error.strerror if isinstance(error, OSError) else error
                        self.fail(SESSION_FAILED, f"the state directory cannot be used: {why}")
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._put_away(journals)
            # An ended session is shown until the next one; its media need not stay in memory.
            for hub in (self.source.hub, self.program):
                if hub is not None:
                    hub.clear()

    def _notices(self, source: Spool) -> Notices:
        return Notices(
            self.ingest, source, self._standing,
            lambda: self.encoder.behind if self.encoder is not None else 0.0,
            self.config.ingest.max_message, self.pipeline.video.max_keyframe_interval,
        )  # fmt: skip

    def _standing(self) -> dict[str, Any]:
        sinks = [
            {"name": run.sink.name, "type": run.sink.type, "state": run.health.state.value}
            for run in self.sinks
        ]
        return {"stream": self.state.value, "since": round(self.since, 3), "sinks": sinks}

    async def _spool(self, name: Literal["source", "program"], journals: list[Journal]) -> Spool:
        """The spool *name*, with what an earlier daemon left in it. Raises OSError and `IndexUnreadable`."""
        config, directory = self.config, self.directory
        left = self.saved is not None and (directory / f"{name}.index").exists()
        opened = Journal.reopen if left else Journal.create
        journal = await trio.to_thread.run_sync(
            opened, self.journal_writer, directory, name, config.journal.max_size
        )
        journals.append(journal)
        keep = name == "source" and any(is_raw(sink) for sink in self.pipeline.sinks)
        spool = Spool.create(
            self.stream, name, journal, config.hub, config.journal,
            max_frame=config.ingest.max_message, keep=keep, notes=Notes(directory / f"{name}.json"),
        )  # fmt: skip
        if left:
            since = (directory / f"{name}.index").stat().st_mtime
            await spool.restore()
            if name == "source":
                self.ingest.interrupted(spool, since)
        return spool

    async def _save(self) -> None:
        """Note what a later daemon must know. A disk that fails is no reason to stop."""
        noted = {
            "pipeline": self.pipeline.id,
            "stream": self.about,
            "started": self.started,
            "done": self.ingest.over and self._ending != "hand_over",
            "ended": self.state in (StreamState.ENDED, StreamState.FAILED),
            "cause": self.cause,
            "ingest": self.ingest.unstructure(),
        }
        try:
            await trio.to_thread.run_sync(Notes(self.directory / "session.json").save, noted)
        except OSError as error:
            log.warning("notes_not_saved", stream=self.stream, spool="session", cause=error.strerror)

    async def _ingest(self, source: Spool, everything: trio.CancelScope) -> None:
        """Chunks into the source spool, until no publisher comes, or the session cannot go on."""
        try:
            await self.ingest.run(source)
        except MediaError as error:
            self.fail(MEDIA_REFUSED, f"the media cannot be parsed: {error}")
        except JournalFull as error:
            self.fail(SESSION_FAILED, str(error))
        finally:
            with trio.CancelScope(shield=True):
                await self._save()
            if self._handed_over:
                everything.cancel()
            else:
                source.end()

    async def _start(
        self, live: trio.Nursery, source: Spool, journals: list[Journal], background: trio.Nursery
    ) -> None:
        """Start what keeps the bytes, wait for the first frames, then start what the plan asks for."""
        place = place_of(self.config.storage.state_dir, self.stream, self.pipeline.id, self.id)
        await trio.to_thread.run_sync(make_place, place)
        # A raw recording wants no frames: it has what was sent even where none can be found in it.
        for sink in self.pipeline.sinks:
            if is_raw(sink):
                health, began = self._health(sink.name), self.started
                raw = RawRecording(self.stream, sink, place, source, health, began=began, tell=self.tell)
                self._add(live, raw)
        await source.hub.wait_published(0)
        configuration = source.hub.configuration
        if configuration is None:
            self.cause = self.cause or "the publisher sent no media"
            return
        self.plan = plan(self.pipeline, configuration)
        log.info(
            "session_plan", stream=self.stream, video=self.plan.video, audio=self.plan.audio,
            tracks=[track.codec for track in configuration.tracks],
        )  # fmt: skip
        self.program = source.hub
        if self.plan.encodes:
            program = await self._spool("program", journals)
            background.start_soon(program.trim_forever)
            self.program = program.hub
            slate, video, audio = self.pipeline.slate, self.pipeline.video, self.pipeline.audio
            loop = await encode_loop(self.ffmpeg, slate, video, audio) if slate.show != "hold" else None
            self.encoder = Encoder(
                self.stream, self.ffmpeg, self.pipeline, self.config.supervisor, source.hub, program,
                self._health("encoder", "encoder"), self.config.ffmpeg.threads,
                slate=loop, absence=self._absence, notes=Notes(self.directory / "encoder.json"),
            )  # fmt: skip
            live.start_soon(self._encode, self.encoder)
        if self.ingest.publication is not None:
            self._enter(StreamState.LIVE)
        for sink in self.pipeline.sinks:
            if not is_raw(sink):
                self._add(live, self._sink(sink, place, self.program))
        self.sinks.sort(key=lambda run: self.pipeline.sinks.index(run.sink))

    def _add(self, live: trio.Nursery, run: SinkRun) -> None:
        self.sinks.append(run)
        live.start_soon(self._write, run)

    def _sink(self, sink: Sink, place: Place, program: Hub) -> SinkRun:
        health = self._health(sink.name)
        config = self.config.supervisor
        if isinstance(sink, FileSink):
            notes = notes_of(self.directory, sink)
            return Recording(
                self.stream, self.ffmpeg, sink, place, config, program, health, notes=notes, tell=self.tell
            )
        notes = Notes(self.directory / f"sink-{sink.name}.json")
        unaimed = sink.name in self.unaimed
        return Writer(
            self.stream, self.ffmpeg, sink, place, config, program, health, notes=notes, unaimed=unaimed
        )

    async def _encode(self, encoder: Encoder) -> None:
        try:
            await encoder.run()
        except FatalFailure as failure:
            self.fail(SESSION_FAILED, f"the encoder failed: {failure}")

    async def _write(self, run: SinkRun) -> None:
        try:
            await run.run()
        except FatalFailure:
            return  # It is in the sink's health, and no other sink's business.

    async def _put_away(self, journals: list[Journal]) -> None:
        """Remove the journal when all that was to be made of it is made; else it is kept, and said to be."""
        if self._handed_over:
            for journal in journals:
                journal.close()
            return
        kept = [await run.keep() for run in self.sinks if isinstance(run, RawRecording)]
        for journal in journals:
            journal.close()
        recorded = all(run.health.state is State.STOPPED for run in self.sinks if isinstance(run, Recording))
        if (all(kept) and recorded and not self.failed) or not self.ingest.size:
            await trio.to_thread.run_sync(partial(shutil.rmtree, self.directory))
            return
        self._enter(StreamState.FAILED if self.failed else StreamState.ENDED)
        await self._save()
        log.warning("journal_kept", stream=self.stream, session=self.id, directory=str(self.directory))
