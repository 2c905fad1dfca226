"""The hub: frames of one timeline, fanned out to any number of subscriptions.

A hub keeps a window of recent batches, once for all subscribers, bounded in bytes and in time. A
subscription is a cursor into that window: it costs a few words, whatever it is behind. One that
falls out of the window is served from the journal (policy ``journal``) or cut forward to a random
access point (policy ``skip``); each frame that it so misses is counted.
"""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import trio
from attrs import define, field, frozen

from ingestd.config import HubConfig
from ingestd.live.batch import Batch, Configuration, Mark, Replay, ReplayReader, weight
from ingestd.media.frames import Frame

Policy: TypeAlias = Literal["journal", "skip"]

#: Random access points remembered for resumes; at one every 2 s this is a day and a half.
MAX_MARKS = 65_536


@frozen(slots=True)
class SubscriptionStatistics:
    """What a subscription handed over and what it had to leave out, in frames; how far it is behind."""

    delivered: int
    dropped: int
    behind_frames: int
    behind_bytes: int
    replayed: int


@define(eq=False)
class Subscription:
    """One reader of a hub. Use `receive` until `trio.EndOfChannel`; close it when done."""

    _hub: Hub
    policy: Policy
    cursor: int
    _needs_start: bool
    _max_lag: float
    _started: bool
    delivered: int = 0
    dropped: int = 0
    replayed: int = 0
    _replaying: ReplayReader | None = None

    async def receive(self) -> Batch:
        """The next batch, waiting for one. The first begins at a random access point.

        Raises `trio.EndOfChannel` after the last one of a hub that has ended. Cancellation leaves
        the cursor where it was: nothing is lost.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self.policy == "journal" and not self._needs_start and self.cursor < self._hub.window_start:
                batch = await self._replay()
            else:
                # Where the pass stands may be given back while the window serves.
                self._replaying = None
                batch = self._take()
            if batch is not None:
                self.cursor = batch.end
                self.delivered += len(batch.frames)
                return batch
            if self._hub.ended and self.cursor >= self._hub.next_seq:
                raise trio.EndOfChannel
            if self.cursor >= self._hub.window_start or self._needs_start:
                await self._hub.wait_published(self.cursor)

    def _take(self) -> Batch | None:
        """The next batch out of the window, or None when there is none (yet)."""
        hub = self._hub
        if self.policy == "skip":
            self._keep_up()
        if self._needs_start:
            mark = hub.mark_from(self.cursor)
            if mark is None:
                self._drop_to(hub.next_seq)
                return None
            self._drop_to(mark.seq)
            self._needs_start = False
            self._started = True
        return hub.batch_at(self.cursor)

    def _keep_up(self) -> None:
        """A `skip` subscription that is too far behind goes to the newest random access point."""
        hub = self._hub
        if self.cursor < hub.window_start or hub.lag_at(self.cursor) > self._max_lag:
            newest = hub.newest_mark()
            if newest is not None and newest.seq > self.cursor:
                self._drop_to(newest.seq)
                self._needs_start = False
            elif self.cursor < hub.window_start:
                # Nothing to start from: what is kept of the old run is no use, wait for the next start.
                self._drop_to(hub.next_seq)
                self._needs_start = True

    def _drop_to(self, seq: int) -> None:
        # What came before a subscriber's first frame was never promised to it.
        if self._started:
            self.dropped += max(0, seq - self.cursor)
        self.cursor = max(self.cursor, seq)

    async def _replay(self) -> Batch | None:
        """The next batch from the journal; None once the window has it, or when the journal has lost it."""
        hub = self._hub
        if self._replaying is None:
            mark = hub.replayable_mark(self.cursor)
            if mark is None:
                self._skip_lost()
                return None
            assert hub.replay is not None  # noqa: S101  a mark with a position implies a replay
            self._replaying = hub.replay.read(mark)
        while (batch := await self._replaying.next()) is not None:
            if batch.end > self.cursor:
                if batch.first > self.cursor:  # the journal has lost what lies between
                    self._drop_to(batch.first)
                rest = batch.since(self.cursor)
                self.replayed += len(rest.frames)
                return rest
        self._replaying = None
        if self.cursor < hub.window_start:
            # A frame is in the journal before it is in the window: this journal has ended, or was cut.
            self._skip_lost()
        return None

    def _skip_lost(self) -> None:
        """Go on at the next random access point that can still be had."""
        hub = self._hub
        following = hub.available_mark(self.cursor + 1)
        self._drop_to(following.seq if following else hub.next_seq)
        self._needs_start = following is None

    @property
    def is_behind(self) -> bool:
        """True if there is something to receive."""
        return self.cursor < self._hub.next_seq

    def close(self) -> None:
        """Give up the place; idempotent."""
        self._hub.unsubscribe(self)

    def statistics(self) -> SubscriptionStatistics:
        hub = self._hub
        return SubscriptionStatistics(
            delivered=self.delivered,
            dropped=self.dropped,
            behind_frames=hub.next_seq - self.cursor,
            behind_bytes=hub.bytes_from(self.cursor),
            replayed=self.replayed,
        )

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@define(eq=False)
class Hub:
    """Frames of one timeline. `publish` never blocks: backpressure is the journal's business."""

    config: HubConfig
    replay: Replay | None = None
    next_seq: int = 0
    pictures: int = 0
    ended: bool = False
    configuration: Configuration | None = None
    last_timestamp: dict[int, int] = field(factory=dict)
    _window: deque[Batch] = field(factory=deque)
    _bytes: int = 0
    _peak: int = 0
    _marks: deque[Mark] = field(factory=lambda: deque(maxlen=MAX_MARKS))
    _holds: set[Callable[[], int | None]] = field(factory=set)
    _subscriptions: set[Subscription] = field(factory=set)
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    def publish(
        self, configuration: Configuration, frames: tuple[Frame, ...], marks: tuple[Mark, ...]
    ) -> None:
        """Add *frames*; *marks* are the random access points among them, by sequence number."""
        self.configuration = configuration
        if not frames:
            return
        size = weight(frames)
        batch = Batch(configuration, frames, self.next_seq, size, trio.current_time())
        self._window.append(batch)
        self._marks.extend(marks)
        self.next_seq = batch.end
        self._bytes += size
        self._peak = max(self._peak, self._bytes)
        video = configuration.video.number if configuration.video else None
        for frame in frames:
            self.last_timestamp[frame.track] = frame.timestamp
            self.pictures += frame.track == video
        self._trim()
        self._changed.unpark_all()

    def end(self) -> None:
        """No more frames will come; subscribers get what is left, then `trio.EndOfChannel`."""
        self.ended = True
        self._changed.unpark_all()

    def clear(self) -> None:
        """Let go of the window, once nobody reads any more; the counters stay."""
        self._window.clear()
        self._marks.clear()
        self._bytes = 0

    def _trim(self) -> None:
        window, config = self._window, self.config
        newest = window[-1].arrival
        # The newest batch stays whatever its size: the receiver has bounded it.
        while len(window) > 1 and (self._bytes > config.memory or newest - window[0].arrival > config.window):
            self._bytes -= window.popleft().size
        if self.replay is None:
            while self._marks and self._marks[0].seq < window[0].first:
                self._marks.popleft()

    async def wait_published(self, seq: int) -> None:
        """Wait until there is a frame with sequence number *seq*, or the hub has ended."""
        while self.next_seq <= seq and not self.ended:
            await self._changed.park()

    async def wait_ended(self) -> None:
        """Wait until the hub has ended."""
        while not self.ended:
            await self._changed.park()

    def idle_for(self) -> float:
        """Seconds since the last frames came; 0 before the first."""
        return trio.current_time() - self._window[-1].arrival if self._window else 0.0

    def subscribe(self, policy: Policy, start: Mark | int | None = None) -> Subscription:
        """A subscription from *start* on, by default from the newest random access point, or the next.

        *start* may be the sequence number of a random access point, also of one that is still to come.
        """
        start = self.newest_mark() if start is None else start
        cursor = self.next_seq if start is None else start if isinstance(start, int) else start.seq
        subscription = Subscription(
            self, policy, cursor, start is None, self.config.max_lag, start is not None
        )
        self._subscriptions.add(subscription)
        return subscription

    def hold(self, needed: Callable[[], int | None]) -> None:
        """Keep, as for a subscriber, what *needed* names: a sequence number, or None for nothing.

        For who is between two subscriptions, and will have to go back.
        """
        self._holds.add(needed)

    def release(self, needed: Callable[[], int | None]) -> None:
        """End a `hold`; idempotent."""
        self._holds.discard(needed)

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    # What there is to start from

    def newest_mark(self) -> Mark | None:
        """The newest random access point in the window."""
        if self._marks and self._marks[-1].seq >= self.window_start:
            return self._marks[-1]
        return None

    def since_mark(self) -> int:
        """How much media has come since the last random access point, in ns."""
        if not self._marks or not self.last_timestamp:
            return 0
        return max(self.last_timestamp.values()) - self._marks[-1].timestamp

    def oldest_mark(self) -> Mark | None:
        """The oldest random access point that can still be had, from the journal or the window."""
        return self._marks[0] if self._marks else None

    def mark_from(self, seq: int) -> Mark | None:
        """The first random access point in the window at or after sequence number *seq*."""
        index = bisect.bisect_left(self._marks, max(seq, self.window_start), key=lambda m: m.seq)
        return self._marks[index] if index < len(self._marks) else None

    def available_mark(self, seq: int) -> Mark | None:
        """The first random access point at or after *seq* in the window or in the journal."""
        index = bisect.bisect_left(self._marks, seq, key=lambda m: m.seq)
        for mark in itertools.islice(self._marks, index, None):
            if mark.seq >= self.window_start or (mark.position is not None and self.replay is not None):
                return mark
        return None

    def mark_near(self, timestamp: int) -> Mark | None:
        """The random access point whose time is nearest to *timestamp* (ns)."""
        index = bisect.bisect_left(self._marks, timestamp, key=lambda m: m.timestamp)
        around = [self._marks[i] for i in (index - 1, index) if 0 <= i < len(self._marks)]
        return min(around, key=lambda m: abs(m.timestamp - timestamp), default=None)

    def mark_before(self, timestamp: int) -> Mark | None:
        """The last random access point at or before *timestamp* (ns)."""
        index = bisect.bisect_right(self._marks, timestamp, key=lambda m: m.timestamp) - 1
        return self._marks[index] if index >= 0 else None

    def replayable_mark(self, seq: int) -> Mark | None:
        """The last random access point at or before *seq* that the journal still holds."""
        index = bisect.bisect_right(self._marks, seq, key=lambda m: m.seq) - 1
        if index < 0 or self._marks[index].position is None or self.replay is None:
            return None
        return self._marks[index]

    def configuration_at(self, seq: int) -> Configuration | None:
        """The configuration of frame *seq*: it changes at random access points only."""
        index = bisect.bisect_right(self._marks, seq, key=lambda m: m.seq) - 1
        return self._marks[index].configuration if index >= 0 else None

    def marks(self) -> Iterator[Mark]:
        """All random access points that can still be had, the oldest first."""
        return iter(self._marks)

    def forget_before(self, seq: int) -> None:
        """The journal has dropped what lies before *seq*: nobody can start there any more."""
        while self._marks and self._marks[0].seq < min(seq, self.window_start):
            self._marks.popleft()

    def slowest_cursor(self) -> int:
        """The lowest sequence number that a `journal` subscription, or a hold, still wants."""
        wanted = [s.cursor for s in self._subscriptions if s.policy == "journal"]
        held = [seq for needed in self._holds if (seq := needed()) is not None]
        return min(wanted + held, default=self.next_seq)

    # The window

    @property
    def window_start(self) -> int:
        return self._window[0].first if self._window else self.next_seq

    def _index_of(self, seq: int) -> int:
        return bisect.bisect_right(self._window, seq, key=lambda b: b.first) - 1

    def batch_at(self, seq: int) -> Batch | None:
        """The rest of the batch that holds *seq*, or None if it is not (or no longer) in the window."""
        if not self.window_start <= seq < self.next_seq:
            return None
        return self._window[self._index_of(seq)].since(seq)

    def lag_at(self, seq: int) -> float:
        """Seconds between the arrival of frame *seq* and that of the newest one."""
        if not self.window_start <= seq < self.next_seq:
            return 0.0
        return self._window[-1].arrival - self._window[self._index_of(seq)].arrival

    def bytes_from(self, seq: int) -> int:
        """Bytes of the window that lie at or after *seq*, to the batch."""
        if seq >= self.next_seq or not self._window:
            return 0
        first = max(0, self._index_of(seq))
        return sum(batch.size for batch in itertools.islice(self._window, first, None))

    def statistics(self) -> dict[str, int]:
        """Depth and peak of the window, in frames and bytes."""
        return {
            "frames": self.next_seq,
            "video_frames": self.pictures,
            "window_bytes": self._bytes,
            "window_peak_bytes": self._peak,
            "subscriptions": len(self._subscriptions),
        }
