"""The encoder: one supervised FFmpeg between the source hub and the program hub."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import structlog
import trio
from attrs import define, field

from ingestd.config import Pipeline, SupervisorConfig
from ingestd.errors import AttemptFailed, FatalFailure, MediaError
from ingestd.live.batch import Configuration, Mark
from ingestd.live.child import Child, run_child
from ingestd.live.feeder import Feeder
from ingestd.live.hub import Hub
from ingestd.live.notes import Notes
from ingestd.live.plan import Plan, plan
from ingestd.live.slate import Absence, Loop, SlateRun
from ingestd.live.spool import Spool
from ingestd.live.supervisor import Health, Supervisor
from ingestd.media.ffmpeg import encoder_args
from ingestd.media.ffmpeg_output import Progress
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Kind

#: A decoder needs a little before the cut; see docs/ffmpeg.md.
_PREROLL = 80_000_000
_TRACK_ENDED = 10 * NS_PER_S
_AWAY_POLL = 0.25

log = structlog.get_logger(__name__)


@define(eq=False)
class Encoder:
    """Encodes *source* into *program* by *pipeline*; `run` ends with the source and then ends the program."""

    stream: str
    ffmpeg: str
    pipeline: Pipeline
    config: SupervisorConfig
    source: Hub
    program: Spool
    health: Health
    threads: int = 0
    slate: Loop | None = None
    absence: Absence = field(factory=Absence)
    notes: Notes | None = None
    #: How much later the program is than the source (ns): so long were the slates that it has shown.
    shift: int = 0
    progress: Progress = field(factory=Progress)
    _copying: bool = False
    _copy_no_more: bool = False
    _feeder: Feeder | None = None
    _failure: FatalFailure | None = None

    async def run(self) -> None:
        """Encode until the source ends. Raises `FatalFailure` when the encoder has failed for good."""
        self.source.hold(self._needed)
        try:
            await self._restore_shift()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pause_when_away)
                await self._supervised()
                nursery.cancel_scope.cancel()
        finally:
            self.source.release(self._needed)
            self.program.end()
        if self._failure is not None:
            raise self._failure

    async def _supervised(self) -> None:
        try:
            await Supervisor(self.config, self.health).run(self._attempt)
        except FatalFailure as failure:
            self._failure = failure

    async def _attempt(self, progress: Callable[[], None]) -> None:
        while await self._encode(progress):
            await self._show_slate(progress)

    async def _encode(self, progress: Callable[[], None]) -> bool:
        """Encode what the source has; True if it pauses, False when it has ended."""
        with self.source.subscribe("journal", self._start()) as subscription:
            # Up to a whole millisecond, FFmpeg's unit here: a hair less than a slot would be none.
            feeder = self._feeder = Feeder(
                subscription, math.ceil(1000 / self.pipeline.video.fps) * NS_PER_MS
            )
            # Another codec configuration needs another process, which is no failure.
            while (configuration := await feeder.configuration()) is not None:
                treatment = self._treatment(configuration)
                await self.program.begin("continues" if treatment.video == "copy" else "follows")
                child = Child(
                    stream=self.stream,
                    name=self.health.name,
                    args=partial(self._args, configuration, treatment),
                    config=self.config,
                    on_start=self._started,
                    on_progress=self._progress,
                    on_advance=progress,
                    on_output=self._output,
                    check=self._check,
                )
                await run_child(child, feeder.feed)
                if feeder.paused:
                    return True
            return False

    # While the publisher is away

    async def _pause_when_away(self) -> None:
        while self.slate is not None:
            await self.absence.wait_for(self.pipeline.slate.after)
            hub = self.program.hub
            if hub.configuration is not None and self.slate.fits(hub.configuration.tracks):
                if self._feeder is not None:
                    self._feeder.pause()
            elif hub.configuration is not None:
                log.warning("slate_not_shown", stream=self.stream, cause="the program has another format")
                return
            await trio.sleep(_AWAY_POLL)

    async def _show_slate(self, progress: Callable[[], None]) -> None:
        assert self.slate is not None  # noqa: S101  nothing else pauses
        since = self.program.hub.last_timestamp[self._video]
        await self._note_shift(since)
        run = SlateRun(self.program, self.slate, self.pipeline.video.fps, self.pipeline.audio.sample_rate)
        came = self.source.next_seq
        log.info("slate_shown", stream=self.stream)
        longer = await run.show(lambda: self.source.wait_published(came), progress)
        self.shift = self._aligned(came, self.shift + _whole_ms(longer))
        await self._note_shift(None)
        log.info("slate_over", stream=self.stream, seconds=round(longer / NS_PER_S, 1))

    def _aligned(self, came: int, shift: int) -> int:
        """*shift*, but such that the first picture that *came* is in the slot that follows.

        Later it would leave that slot to the picture from before the slate.
        """
        batch = self.source.batch_at(came)
        video = batch.configuration.video if batch else None
        first = next((f for f in batch.frames if video and f.track == video.number), None) if batch else None
        if first is None:
            return shift
        slot = round(self.program.hub.last_timestamp[self._video] * self.pipeline.video.fps / NS_PER_S) + 1
        at = round(slot * NS_PER_S / self.pipeline.video.fps)
        return (at - first.timestamp) // NS_PER_MS * NS_PER_MS

    async def _note_shift(self, since: int | None) -> None:
        if self.notes is not None:
            noted = {"shift": self.shift, "since": since}
            try:
                await trio.to_thread.run_sync(self.notes.save, noted)
            except OSError as error:
                log.warning("notes_not_saved", stream=self.stream, spool="encoder", cause=error.strerror)

    async def _restore_shift(self) -> None:
        noted = await trio.to_thread.run_sync(self.notes.load) if self.notes is not None else None
        if noted is not None:
            self.shift = noted["shift"]
            if noted["since"] is not None:
                self.shift += _whole_ms(self.program.hub.last_timestamp[self._video] - noted["since"])

    @property
    def _video(self) -> int:
        configuration = self.program.hub.configuration
        assert configuration is not None and configuration.video is not None  # noqa: S101, PT018
        return configuration.video.number

    def _treatment(self, configuration: Configuration) -> Plan:
        treatment = Plan("encode", "encode") if self._copy_no_more else plan(self.pipeline, configuration)
        # A track that the source lacks is generated, never copied.
        treatment = Plan(
            treatment.video if configuration.video else "encode",
            treatment.audio if configuration.audio else "encode",
        )
        self._copying = treatment.video == "copy"
        return treatment

    @property
    def behind(self) -> float:
        """How much of the source is not yet in the program, in seconds of media."""
        source = max(self.source.last_timestamp.values(), default=0)
        program = max(self.program.hub.last_timestamp.values(), default=0) - self.shift
        return max(0.0, (source - program) / NS_PER_S)

    def _needed(self) -> int | None:
        """Where the next attempt would begin: the journal keeps what comes from there on."""
        start = self._start()
        return start.seq if start else None

    def _start(self) -> Mark | None:
        """Where in the source to begin: at its first frame, or just before where the program ends."""
        if not self.program.hub.last_timestamp:
            return self.source.oldest_mark()
        last = self.program.hub.last_timestamp.values()
        # A track that has been silent for so long has ended: there is nothing to go back for.
        resume = max(min(last), max(last) - _TRACK_ENDED) - _PREROLL - self.shift
        return self.source.mark_before(resume) or self.source.oldest_mark()

    def _args(self, configuration: Configuration, treatment: Plan, progress_fd: int) -> list[str]:
        video, audio = self.pipeline.video, self.pipeline.audio
        start = audio_start = None
        hub = self.program.hub
        if hub.configuration is not None:
            last = {
                track.kind: hub.last_timestamp[track.number]
                for track in hub.configuration.tracks
                if track.number in hub.last_timestamp
            }
            if Kind.VIDEO in last:
                slot = round(last[Kind.VIDEO] * video.fps / NS_PER_S) + 1
                start = round(slot * NS_PER_S / video.fps)
            if Kind.AUDIO in last:
                audio_start = last[Kind.AUDIO] + round(1024 * NS_PER_S / audio.sample_rate)
        return encoder_args(
            self.ffmpeg,
            video,
            audio,
            configuration.tracks,
            start=start,
            audio_start=audio_start,
            origin=self.program.origin or 0,
            shift=self.shift,
            copy_video=treatment.video == "copy",
            copy_audio=treatment.audio == "copy",
            threads=self.threads,
            progress_fd=progress_fd,
        )

    def _check(self) -> str | None:
        """Under ``auto``, H.264 whose keyframes are too far apart for the sinks is encoded from then on."""
        video = self.pipeline.video
        if not self._copying or video.codec != "auto":
            return None
        distance = self.source.since_mark() / NS_PER_S
        if distance <= video.max_keyframe_interval:
            return None
        self._copy_no_more = True
        return f"the source had no keyframe for {distance:.1f} s (video.max_keyframe_interval): encoding it"

    def _started(self, pid: int) -> None:
        self.health.pid = pid

    def _progress(self, progress: Progress) -> None:
        self.progress = progress

    async def _output(self, data: bytes) -> None:
        try:
            await self.program.take(data)
        except MediaError as error:
            raise AttemptFailed(f"the encoder's output cannot be parsed: {error}") from error


def _whole_ms(nanoseconds: int) -> int:
    """Rounded up to FFmpeg's unit here: what follows must not come before the end of what was shown."""
    return -(-nanoseconds // NS_PER_MS) * NS_PER_MS
