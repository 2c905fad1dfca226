"""A session's frames as init and media segments for viewers' Media Source: muxed once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import define, field

from ingestd.errors import IngestdError, UnsupportedMedia
from ingestd.live.batch import Batch, Configuration
from ingestd.live.hub import Hub
from ingestd.live.ring import Init, Message
from ingestd.media.frames import NS_PER_MS, Frame, Track
from ingestd.media.mp4_mux import Mp4Muxer
from ingestd.media.mp4_records import mime
from ingestd.media.opus import SteadySound
from ingestd.media.webm_codecs import WEBM_CODECS
from ingestd.media.webm_mux import Muxer
from ingestd.server_frames import BINARY, frame_head


class Unplayable(IngestdError):
    """No browser plays these tracks: neither WebM nor MP4 has them for players. The text says why."""


@define(eq=False)
class Segmenter:
    """Makes messages of what *hub* carries for *session*, which began at *started* (s since 1970).

    WebM where its codecs allow that, else MP4. *count* is the number of frames before the next one, *newest*
    the time of the last one (ms).
    """

    session: str
    started: float
    hub: Hub
    count: int = 0
    newest: int = 0
    init: Init | None = None
    _configuration: Configuration | None = None
    _muxer: Muxer | Mp4Muxer | None = None
    _sound: SteadySound = field(factory=lambda: SteadySound(()))

    def messages(self, batch: Batch) -> Iterator[Message]:
        """*batch*, which begins at a random access point if it is the first: cut at each of them.

        Raises `Unplayable`.
        """
        if batch.configuration is not self._configuration:
            self._configure(batch.configuration)
        assert self.init is not None  # noqa: S101  _configure made it
        seq = batch.first
        while seq < batch.end:
            here = self.hub.mark_from(seq)
            starts = here is not None and here.seq == seq
            following = self.hub.mark_from(seq + 1)
            end = batch.end if following is None else min(following.seq, batch.end)
            message = self._message(batch.frames[seq - batch.first : end - batch.first], batch, starts=starts)
            if message is not None:
                yield message
            seq = end

    def _message(self, frames: Sequence[Frame], batch: Batch, *, starts: bool) -> Message | None:
        assert self._muxer is not None  # noqa: S101  _configure made it
        first, self.count = self.count, self.count + len(frames)
        count, frames = len(frames), tuple(self._sound.steady(frames))
        muxer = self._muxer
        data = muxer.mux(frames, begin=starts) if isinstance(muxer, Muxer) else muxer.mux(frames)
        if not data:
            return None  # all before the time 0
        head = frame_head(BINARY, len(data))
        time, self.newest = self._time(frames[0]), self._time(frames[-1])
        return Message(
            head + data, len(head), batch.arrival, self.init, starts,
            first=first, frames=count, time=time,
        )  # fmt: skip

    def _time(self, frame: Frame) -> int:
        if isinstance(self._muxer, Muxer):
            return max(0, self._muxer.time(frame))
        return max(0, round(frame.timestamp / NS_PER_MS))

    def _configure(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._sound = SteadySound(configuration.tracks)
        try:
            container, muxer = _muxer(configuration.tracks)
            media = mime(configuration.tracks, container)
        except UnsupportedMedia as error:
            raise Unplayable(f"no browser plays it: {error}") from None
        if self.init is None or (muxer.header(), media) != (self.init.segment, self.init.media):
            self._muxer = muxer
            self.init = Init(media, muxer.header(), self.session, self.started)


def _muxer(tracks: Sequence[Track]) -> tuple[str, Muxer | Mp4Muxer]:
    """The container that players take *tracks* in. Raises `UnsupportedMedia`."""
    if {track.codec for track in tracks} <= WEBM_CODECS:
        # Firefox takes each Cluster for a new segment, of which it drops what comes before a keyframe.
        return "webm", Muxer(tracks, open_clusters=True)
    return "mp4", Mp4Muxer(tracks)
