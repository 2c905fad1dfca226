"""The slate: what the program shows while its publisher is away.

A still picture and silence are encoded once, as the program itself is, into a few frames; shown again and
again they cost nothing, begin with an IDR wherever they are put, and need no process that could fail.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
import trio
from attrs import define, field, frozen

from ingestd.config import Audio, Slate, Video
from ingestd.credentials import locate
from ingestd.errors import MediaError
from ingestd.live.orphans import environment
from ingestd.live.spool import Spool
from ingestd.media.demux import SniffingDemuxer
from ingestd.media.ffmpeg import slate_args
from ingestd.media.ffmpeg_output import StderrParser
from ingestd.media.frames import NS_PER_S, Event, Frame, Header, Kind, Track
from ingestd.media.webm_mux import Muxer

log = structlog.get_logger(__name__)

_TICK = 0.1
_PATIENCE = 30.0
_MAX_FRAME = 16 * 2**20
#: Samples of an AAC frame (ISO/IEC 14496-3, 4.5.2.1.1).
_SAMPLES = 1024


@define(eq=False)
class Absence:
    """Whether the publisher is away, and for how long."""

    _since: float | None = None
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    def tell(self, *, present: bool) -> None:
        if present:
            self._since = None
        elif self._since is None:
            self._since = trio.current_time()
        self._changed.unpark_all()

    @property
    def seconds(self) -> float:
        """How long it has been away; 0 when it is there."""
        return 0.0 if self._since is None else trio.current_time() - self._since

    async def wait_for(self, seconds: float) -> None:
        """Wait until the publisher has been away for so long."""
        while (missing := seconds - self.seconds) > 0 or self._since is None:
            if self._since is None:
                await self._changed.park()
            else:
                with trio.move_on_after(missing):
                    await self._changed.park()


@frozen(slots=True)
class Loop:
    """A slate as coded frames: *pictures* from an IDR on, one a slot, and one frame of *silence*."""

    tracks: tuple[Track, ...]
    pictures: tuple[bytes, ...]
    silence: bytes

    def fits(self, tracks: tuple[Track, ...]) -> bool:
        """True if decoders of *tracks* decode it without being told anything new."""
        own = {track.kind: (track.codec, track.private) for track in self.tracks}
        return own == {track.kind: (track.codec, track.private) for track in tracks}


async def encode_loop(ffmpeg: str, slate: Slate, video: Video, audio: Audio) -> Loop | None:
    """*slate* in the program's own format; None, with the cause in the log, if it cannot be made."""
    with tempfile.TemporaryDirectory(prefix="ingestd-") as directory:
        text = Path(directory) / "text"
        if slate.text:
            text.write_text(slate.text, "utf-8")
        for shown in dict.fromkeys([bool(slate.text), False]):
            image = str(locate(slate.image)) if slate.show == "image" else None
            args = slate_args(
                ffmpeg, video, audio, colour=slate.colour, image=image, text_file=str(text) if shown else None
            )
            try:
                return _loop(await _run(args))
            except (OSError, MediaError) as error:
                # A host without fonts shows its slate without words rather than none.
                log.warning("slate_not_made", with_text=shown, cause=str(error))
    return None


async def _run(args: list[str]) -> bytes:
    with trio.move_on_after(_PATIENCE) as scope:
        result = await trio.run_process(
            args,
            check=False,
            start_new_session=True,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
        )
    if scope.cancelled_caught:
        raise OSError(f"FFmpeg took more than {_PATIENCE:g} s")
    if result.returncode:
        said = StderrParser()
        said.feed(result.stderr + b"\n")
        raise OSError(str(said.cause()))
    return bytes(result.stdout)


def _loop(data: bytes) -> Loop:
    demuxer = SniffingDemuxer(max_frame=_MAX_FRAME)
    events: list[Event] = [*demuxer.feed(data), *demuxer.close()]
    header = next((event for event in events if isinstance(event, Header)), None)
    frames = [event for event in events if isinstance(event, Frame)]
    kinds = {track.number: track.kind for track in header.tracks} if header else {}
    pictures = tuple(bytes(frame.payload) for frame in frames if kinds.get(frame.track) is Kind.VIDEO)
    sounds = [bytes(frame.payload) for frame in frames if kinds.get(frame.track) is Kind.AUDIO]
    if header is None or not pictures or not sounds:
        raise MediaError(0, "FFmpeg made no slate")
    # The last one: the first holds the encoder's priming.
    return Loop(header.tracks, pictures, sounds[-1])


@define(eq=False)
class SlateRun:
    """*loop* on *program*, from the frame after its last one on, paced by the clock."""

    program: Spool
    loop: Loop
    fps: float
    sample_rate: int
    _slot: int = 0
    _shown: int = 0
    _sound: float = 0.0

    async def show(self, until: Callable[[], Awaitable[None]], progress: Callable[[], None]) -> int:
        """Show it until *until* returns; how much longer the program is for it, in ns."""
        hub = self.program.hub
        assert hub.configuration is not None  # noqa: S101  there is a program
        video, audio = hub.configuration.video, hub.configuration.audio
        assert video is not None and audio is not None  # noqa: S101, PT018  it has both
        begins = hub.last_timestamp[video.number]
        self._slot = round(begins * self.fps / NS_PER_S) + 1
        self._sound = hub.last_timestamp[audio.number] + _SAMPLES * NS_PER_S / self.sample_rate
        muxer = Muxer(hub.configuration.tracks, doc_type="matroska")
        await self.program.begin()
        await self.program.take(muxer.header())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pace, begins, muxer, video.number, audio.number, progress)
            await until()
            nursery.cancel_scope.cancel()
        return hub.last_timestamp[video.number] - begins

    async def _pace(
        self, begins: int, muxer: Muxer, video: int, audio: int, progress: Callable[[], None]
    ) -> None:
        started = trio.current_time()
        while True:
            due = begins + round((trio.current_time() - started) * NS_PER_S)
            frames = sorted(
                [*self._pictures(video, due), *self._sounds(audio, due)], key=lambda frame: frame.timestamp
            )
            if frames:
                # Whole, or not at all: the next one to write goes on behind it.
                with trio.CancelScope(shield=True):
                    await self.program.take(muxer.mux(frames))
                progress()
            await trio.sleep(_TICK)

    def _pictures(self, track: int, due: int) -> list[Frame]:
        frames = []
        while (at := round(self._slot * NS_PER_S / self.fps)) <= due:
            index = self._shown % len(self.loop.pictures)
            frames.append(Frame(track, at, index == 0, self.loop.pictures[index]))
            self._slot, self._shown = self._slot + 1, self._shown + 1
        return frames

    def _sounds(self, track: int, due: int) -> list[Frame]:
        frames = []
        while self._sound <= due:
            frames.append(Frame(track, round(self._sound), True, self.loop.silence))
            self._sound += _SAMPLES * NS_PER_S / self.sample_rate
        return frames
