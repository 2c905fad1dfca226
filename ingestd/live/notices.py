"""What a session tells its publisher: how it stands, whether it is behind, what is odd about the source.

Looked at once a second and told when it changes; ``docs/protocol.md`` has the messages. A warning is told
again only after it was over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import structlog
import trio
from attrs import define, field

from ingestd.live.ingest import Ingest
from ingestd.live.publication import Notice, Publication
from ingestd.live.spool import Spool
from ingestd.media.frames import NS_PER_S

log = structlog.get_logger(__name__)

_EVERY = 1.0
#: Seconds that the encoder may lag before the publisher hears of it, and to which it must come down.
_BEHIND, _CAUGHT_UP = 4.0, 2.0
_SILENCE = 5.0
_DRIFT = 1.0
_SLOW = 0.6
_HUGE = 0.5
#: Over how many looks the frame rate is taken.
_LOOKS = 5


@define(eq=False)
class Notices:
    """Tells whoever publishes by *ingest* to *source*.

    *standing* gives the fields of ``state``, *behind* the seconds that the encoder lags, *largest* is the
    most bytes that a chunk may have, *max_keyframe_interval* (s) how far keyframes may be apart.
    """

    ingest: Ingest
    source: Spool
    standing: Callable[[], dict[str, Any]]
    behind: Callable[[], float]
    largest: int
    max_keyframe_interval: float
    _publication: Publication | None = None
    _state: dict[str, Any] | None = None
    _pressed: bool = False
    _warned: set[str] = field(factory=set)
    _frames: list[int] = field(factory=list)
    _best_rate: float = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            publication = self.ingest.publication
            if publication is not self._publication:
                self._publication, self._state, self._pressed = publication, None, False
                self._warned.clear()
                self._frames.clear()
                self._best_rate = 0.0
            if publication is not None and publication.accepted is not None:
                self._tell_state(publication)
                self._tell_pressure(publication)
                self._tell_warnings(publication)
            await trio.sleep(_EVERY)

    def _tell_state(self, publication: Publication) -> None:
        state = self.standing()
        if state != self._state:
            self._state = state
            publication.tell(Notice("state", state))

    def _tell_pressure(self, publication: Publication) -> None:
        queue = publication.chunks.statistics()
        waiting, room = queue.current_buffer_used, queue.max_buffer_size
        behind = self.behind()
        if self._pressed:
            active = waiting > room / 4 or behind > _CAUGHT_UP
        else:
            active = waiting >= room * 3 / 4 or behind > _BEHIND
        if active or self._pressed:
            fields = {"active": active, "behind_chunks": waiting, "behind_seconds": round(behind, 1)}
            publication.tell(Notice("pressure", fields))
        self._pressed = active

    def _tell_warnings(self, publication: Publication) -> None:
        found = dict(self._warnings())
        for code, text in found.items():
            if code not in self._warned:
                log.warning("source_warning", stream=self.ingest.stream, code=code, text=text)
                publication.tell(Notice("warning", {"code": code, "text": text}))
        self._warned = set(found)

    def _warnings(self) -> Iterator[tuple[str, str]]:
        """What is odd at the moment: a code and a sentence."""
        source, ingest = self.source, self.ingest
        if ingest.idle > _SILENCE:
            yield "no_data", f"no media for {ingest.idle:.0f} s: is the camera off, or the picture frozen?"
        if ingest.empty_in_a_row >= 3:
            yield "empty_chunks", "the recorder gives empty chunks: its tracks may have ended"
        limit = self.largest
        if ingest.largest > limit * _HUGE:
            yield "huge_chunks", f"chunks of {ingest.largest} bytes, and {limit} are allowed: shorter slices"
        since, most = source.hub.since_mark() / NS_PER_S, self.max_keyframe_interval
        if since > most:
            yield "no_keyframe", f"no keyframe for {since:.0f} s: ask the recorder for one every 2 s"
        if source.lost.is_set():
            yield "not_recorded", "the server's disk is full: nothing is acknowledged any more"
        yield from self._track_warnings()

    def _track_warnings(self) -> Iterator[tuple[str, str]]:
        source = self.source
        configuration = source.hub.configuration
        if configuration is None or self.ingest.idle > _EVERY:
            return
        last = source.hub.last_timestamp
        video, audio = configuration.video, configuration.audio
        if video and audio and video.number in last and audio.number in last:
            apart = (last[video.number] - last[audio.number]) / NS_PER_S
            if abs(apart) > _DRIFT:
                late = "picture" if apart < 0 else "sound"
                yield "av_drift", f"the {late} is {abs(apart):.1f} s late"
        self._frames = [*self._frames[-_LOOKS:], source.video_frames]
        if len(self._frames) > _LOOKS:
            rate = (self._frames[-1] - self._frames[0]) / (_LOOKS * _EVERY)
            self._best_rate = max(self._best_rate, rate)
            if video and rate < self._best_rate * _SLOW:
                yield "slow_pictures", f"{rate:.0f} pictures a second, and there were {self._best_rate:.0f}"
