"""A writer: one supervised stream-copy FFmpeg between the program hub and one sink's target."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog
import trio
from attrs import define, evolve, field

from ingestd.config import SupervisorConfig
from ingestd.errors import AttemptFailed, FatalFailure
from ingestd.live.batch import Batch, Configuration, Mark
from ingestd.live.child import Child, Input, run_child
from ingestd.live.fed import NEAR, Cut, Fed
from ingestd.live.feeder import Feeder
from ingestd.live.hub import Hub, Subscription
from ingestd.live.notes import Notes
from ingestd.live.playlist import PlaylistFollower
from ingestd.live.supervisor import Health, State, Supervisor
from ingestd.live.sweep import sweep
from ingestd.media.ffmpeg import writer_args
from ingestd.media.ffmpeg_output import Progress
from ingestd.sinks.base import Output, Place, Playlist, Sink
from ingestd.sinks.plugins import ask

log = structlog.get_logger(__name__)

_SWEEP_EVERY = 5.0
_LOOK_EVERY = 0.5  # seconds, for room on a full disk
_PATIENCE = 60.0  # seconds that an attempt waits for it


@define(eq=False)
class Writer:
    """Runs *sink* on *program*'s frames; `run` returns when the program has ended and all is written.

    With *notes* a writer of a later daemon, at the same *place*, goes on with the playlist of this one:
    *program* then has the same timeline, its frames may have other numbers. An *unaimed* one makes no attempt
    before `aim`.
    """

    stream: str
    ffmpeg: str
    sink: Sink
    place: Place
    config: SupervisorConfig
    program: Hub
    health: Health
    notes: Notes | None = None
    unaimed: bool = False
    progress: Progress = field(factory=Progress)
    bytes: int = 0
    _sent: int = 0
    _dropped: int = 0
    _next_seq: int | None = None
    _subscription: Subscription | None = None
    _feeder: Feeder | None = None
    _checked: bool = False
    _fed: Fed | None = None
    playlist: PlaylistFollower | None = None
    supervisor: Supervisor | None = None

    async def run(self) -> None:
        """Raises `FatalFailure` when the sink has failed for good."""
        playlist = self._playlist()
        async with trio.open_nursery() as nursery:
            if playlist is not None:
                stale_after = self.config.stall_timeout + playlist.pause
                self._checked = playlist.checked
                self.playlist = PlaylistFollower(playlist.path, self.place.stem, stale_after, self.notes)
                nursery.start_soon(self.playlist.follow)
                nursery.start_soon(self._sweep_forever, self.playlist, playlist.keep)
            if self.sink.network:
                nursery.start_soon(self._stop_trying, nursery.cancel_scope)
            supervisor = self.supervisor = Supervisor(self.config, self.health, forever=self.sink.network)
            failure = None
            self.program.hold(self._needed)
            try:
                await supervisor.run(self._attempt)
            except FatalFailure as caught:
                failure = caught
            finally:
                self.program.release(self._needed)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def aim(self, sink: Sink) -> None:
        """Push where *sink* says, from now on: it is the same but for that."""
        if self.unaimed or sink != self.sink:
            self.unaimed, self.sink = False, sink
            if self.supervisor is not None:
                self.supervisor.restart()

    def _playlist(self) -> Playlist | None:
        try:
            return ask(self.sink, lambda: self.sink.playlist(self.place))
        except FatalFailure as failure:
            self.health.last_error = str(failure)
            self.health.enter(State.FAILED)
            raise

    async def _sweep_forever(self, playlist: PlaylistFollower, keep: int | None) -> None:
        while True:
            await trio.sleep(_SWEEP_EVERY)
            directory = playlist.path.parent
            await trio.to_thread.run_sync(sweep, directory, self.place.stem, playlist.listed, keep)

    async def _stop_trying(self, scope: trio.CancelScope) -> None:
        """A network target that is down once the program has ended has nothing left to be sent."""
        await self.program.wait_ended()
        await self.health.wait_for(State.BACKING_OFF, State.FAILED)
        if self.health.state is State.BACKING_OFF:
            self.health.enter(State.STOPPED)
        scope.cancel()

    async def _attempt(self, progress: Callable[[], None]) -> None:
        if self.sink.network and self.program.ended and self._next_seq is not None:
            return
        if self.unaimed:
            # No failure: those are counted, and may be final. `aim` begins the attempt anew.
            self.health.last_error = "its target is not known yet: the database is away"
            self.health.enter(State.BACKING_OFF)
            log.warning("target_awaited", stream=self.stream, sink=self.sink.name)
            await trio.sleep_forever()
        with self.program.subscribe(self.sink.policy, await self._start()) as subscription:
            self._subscription = subscription
            self._account(subscription)
            feeder = self._feeder = Feeder(subscription, before=self._before, anew=self.sink.network)
            try:
                while (configuration := await feeder.configuration()) is not None:
                    await self._run(feeder, configuration, progress)
                if self.playlist is not None and self._checked:
                    await self.playlist.close()
            except AttemptFailed:
                if self.playlist is not None:
                    # At once: what is damaged must not be seen. The next attempt will insist on it.
                    with suppress(AttemptFailed):
                        await self.playlist.settle()
                raise
            finally:
                self.bytes += feeder.bytes
                self._sent += subscription.delivered
                self._dropped += subscription.dropped
                self._next_seq = subscription.cursor
                self._subscription = self._feeder = None

    async def _start(self) -> Mark | int | None:
        """A playlist goes on where it ends; a network target is taken to the newest random access point."""
        if self.sink.network:
            return self.program.newest_mark()
        if (playlist := self.playlist) is not None:
            if playlist.end() is None:
                await playlist.resume(self.program, checked=self._checked)
            await playlist.refresh()
            end = playlist.end()
            if self._checked and playlist.reached is None and end is not None:
                playlist.reached = Cut(await self._seek(end), end)
        return self._resume()

    async def _seek(self, end: int) -> int:
        """Wait for the first random access point from *end* (ns) on; if none comes, what follows all."""
        program = self.program
        with program.subscribe("journal", program.mark_before(end) or program.oldest_mark()) as subscription:
            while True:
                try:
                    batch = await subscription.receive()
                except trio.EndOfChannel:
                    return program.next_seq
                for seq, frame in enumerate(batch.frames, batch.first):
                    if frame.timestamp >= end - NEAR and batch.configuration.starts_at(frame):
                        return seq

    def _resume(self) -> Mark | int | None:
        if self.playlist is None or (end := self.playlist.end()) is None:
            return self.program.oldest_mark()
        return self.playlist.reached.seq if self.playlist.reached else self.program.mark_near(end)

    def _needed(self) -> int | None:
        """Where an attempt may have to begin: the journal keeps what comes from there on."""
        if self.playlist is not None and self.playlist.held is not None:
            return self.playlist.held.seq
        start = None if self.sink.network else self._resume()
        return start.seq if isinstance(start, Mark) else start

    def _account(self, subscription: Subscription) -> None:
        """What lies between two attempts of a network target was never sent: count it."""
        if self._next_seq is not None and self.sink.network:
            self._dropped += max(0, subscription.cursor - self._next_seq)

    async def _run(self, feeder: Feeder, configuration: Configuration, progress: Callable[[], None]) -> None:
        place, playlist = self.place, self.playlist
        if playlist is not None:
            await self._wait_for_room(playlist)
            await playlist.settle()
            number = playlist.next_number
            place = evolve(place, resumed=number > 0, first=number, cuts=playlist.cuts)
        output = ask(self.sink, lambda: self.sink.output(place, configuration.tracks))
        if output is None:
            raise FatalFailure(f"sink type {self.sink.type} names no output for FFmpeg")
        assert feeder.following is not None  # noqa: S101  there is a configuration, so there are frames
        if playlist is not None:
            self._fed = Fed.beginning(feeder.following) if self._checked else None
            await playlist.begin(feeder.following.frames[0].timestamp, self._fed)
        child = Child(
            stream=self.stream,
            name=self.health.name,
            args=partial(self._args, output),
            config=self.config,
            secrets=output.secrets,
            on_start=self._started,
            on_progress=self._progressed,
            on_advance=progress,
            patience=ask(self.sink, lambda: self.sink.patience),
            check=self._check,
        )
        try:
            await run_child(child, partial(self._feed, feeder))
        except AttemptFailed:
            if playlist is not None and child.status is not None and child.status >= 0:
                await playlist.doubt()
            raise
        if playlist is not None:
            await playlist.finish()

    async def _wait_for_room(self, playlist: PlaylistFollower) -> None:
        """On a full disk an attempt would be in vain; but nothing waits for ever."""
        with trio.move_on_after(_PATIENCE):
            while await playlist.lacks_room():
                self.health.enter(State.BACKING_OFF)
                await trio.sleep(_LOOK_EVERY)

    async def _feed(self, feeder: Feeder, stdin: Input) -> None:
        await feeder.feed(stdin)
        if self.playlist is not None:
            await self.playlist.all_fed()

    async def _before(self, batch: Batch) -> None:
        """Look at the playlist for each segment that may be cut: while FFmpeg catches up, they come fast."""
        if self.playlist is not None and self._fed is not None and self._fed.add(batch):
            await self.playlist.refresh()

    def _args(self, output: Output, progress_fd: int) -> list[str]:
        return writer_args(self.ffmpeg, output.args, output.protocols, progress_fd=progress_fd)

    def _check(self) -> str | None:
        """What FFmpeg does not see: a damaged segment, a playlist that stands still while media is fed."""
        if self.playlist is not None and self.playlist.broken is not None:
            return self.playlist.broken
        waiting = self._subscription is not None and self._subscription.cursor < self.program.next_seq
        fresh = self.program.idle_for() < 1.0
        return self.playlist.stale() if self.playlist is not None and (waiting or fresh) else None

    def _started(self, pid: int) -> None:
        self.health.pid = pid

    def _progressed(self, progress: Progress) -> None:
        self.progress = progress

    @property
    def sent_frames(self) -> int:
        """Frames handed to FFmpeg, over all attempts. Sent, not delivered: no target acknowledges media."""
        return self._sent + (self._subscription.delivered if self._subscription else 0)

    @property
    def behind_frames(self) -> int:
        """Frames of the program that FFmpeg has not yet been handed; 0 between attempts."""
        return self.program.next_seq - self._subscription.cursor if self._subscription else 0

    @property
    def dropped_frames(self) -> int:
        return self._dropped + (self._subscription.dropped if self._subscription else 0)

    @property
    def sent_bytes(self) -> int:
        return self.bytes + (self._feeder.bytes if self._feeder else 0)
