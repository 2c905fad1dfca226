"""Who watches: a bounded number of viewers, a relay for each stream that has some, and what was sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio
from attrs import define, field

from ingestd.config import Viewers
from ingestd.errors import WatchRefused
from ingestd.events import Event
from ingestd.live.relay import Relay
from ingestd.live.streams import Streams
from ingestd.live.viewer import DISABLED, GOING_AWAY, NO_SUCH_STREAM, TOO_MANY, Viewer


@define
class Tally:
    """What a stream's viewers that have gone were sent, in bytes, and missed, in frames."""

    sent: int = 0
    skipped: int = 0


@define(eq=False)
class Audience:
    """Viewers of *streams*. `run` first: relays run in it."""

    config: Viewers
    streams: Streams
    count: int = 0
    _relays: dict[str, Relay] = field(factory=dict)
    _gone: dict[str, Tally] = field(factory=dict)
    _nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relay to whoever watches, until cancelled."""
        self.streams.events.listen(self._heard)
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    @contextmanager
    def watching(self, stream: str, viewer: Viewer) -> Iterator[None]:
        """*viewer* watches *stream* for the time of the block. Raises `WatchRefused`."""
        self._check(stream)
        relay = self._relays.get(stream)
        if relay is None:
            assert self._nursery is not None  # noqa: S101  run() first
            relay = self._relays[stream] = Relay.of(stream, self.streams, self.config)
            self._nursery.start_soon(self._run, relay)
        self.count += 1
        try:
            relay.add(viewer)
            yield
        finally:
            self.count -= 1
            relay.remove(viewer)
            if not relay.viewers:
                relay.scope.cancel()
                self._forget(relay)
            if self.streams.directory.get(stream) is not None:
                tally = self._gone.setdefault(stream, Tally())
                tally.sent += viewer.sent
                tally.skipped += viewer.skipped

    def _check(self, stream: str) -> None:
        directory, config = self.streams.directory, self.config
        found = directory.get(stream)
        if found is None and not directory.loaded:
            raise WatchRefused(TOO_MANY, "the streams are not all known yet")
        if found is None:
            raise WatchRefused(NO_SUCH_STREAM, "there is no such stream")
        if not found.enabled:
            raise WatchRefused(DISABLED, "this stream is disabled")
        if self.streams.draining:
            raise WatchRefused(GOING_AWAY, "the server is stopping")
        if self.count >= config.max or self.of(stream) >= config.max_per_stream:
            raise WatchRefused(TOO_MANY, "too many viewers")

    async def _run(self, relay: Relay) -> None:
        try:
            await relay.run()
        finally:
            self._forget(relay)

    def _forget(self, relay: Relay) -> None:
        if self._relays.get(relay.stream) is relay:
            del self._relays[relay.stream]

    def _heard(self, event: Event) -> None:
        if relay := self._relays.get(event.stream):
            relay.heard(event)
        if event.type == "stream.deleted":
            self._gone.pop(event.stream, None)

    # For those who look on

    def of(self, stream: str) -> int:
        """How many watch *stream* now."""
        relay = self._relays.get(stream)
        return len(relay.viewers) if relay else 0

    def tally(self, stream: str) -> Tally | None:
        """What all viewers of *stream* were sent since the daemon started; None if it had none."""
        gone, relay = self._gone.get(stream), self._relays.get(stream)
        if gone is None and relay is None:
            return None
        total = Tally(gone.sent, gone.skipped) if gone else Tally()
        for viewer in relay.viewers if relay else ():
            total.sent += viewer.sent
            total.skipped += viewer.skipped
        return total
