"""A test card that arrives as a browser's recording does: VP8 and Opus in WebM, in MediaRecorder's chunks.

The picture carries what the frame counting reads: the wall clock in milliseconds (32 bars, rows 0-8 % of
the height) and the number of the drawn frame (16 bars, rows 10-16 %), most significant bit first, white = 1,
with a white guard bar before and a black one after. At every full second a 1 kHz beep of 100 ms sounds while
the rest of the picture flashes white. FFmpeg draws and encodes; it is muxed again here, because
MediaRecorder's shape (unknown sizes, a cluster a slice, boundaries one byte into a block) is what the daemon
has to cope with. No fonts are needed: the digits come from a table of 3x5 dots.
"""

# ruff: noqa: PT028 - test_card_chunks is no test

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import IO

import trio
from attrs import evolve

from ingestd.errors import IngestdError
from ingestd.media.frames import NS_PER_S, Event, Frame, Header, Kind, Track
from ingestd.media.webm_demux import Demuxer
from ingestd.media.webm_mux import Muxer

FLASH_SECONDS = 0.1
_START_UP = 0.5  # seconds that FFmpeg is given before the first frame's moment
_DROPPED = 0.12  # of 30 drawn frames a second about 26 arrive, as from a busy browser
_JITTER_MS = 6
_PACKET_MS = 60  # Chromium's, of Opus
_DIGITS = (31599, 11415, 29671, 29647, 23497, 31183, 31215, 29257, 31727, 31695)  # 3x5 dots, row by row
_COLON = 1040


class CardFailed(IngestdError):
    """FFmpeg made no test card; the message says why."""


async def test_card_chunks(
    ffmpeg: str,
    *,
    seconds: float | None = None,
    width: int = 640,
    height: int = 360,
    fps: int = 30,
    timeslice: float = 0.25,
    keyframe_every: int = 100,
    seed: int = 0,
    realtime: bool = True,
    bitrate: int | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of one recording, *seconds* of media long (None: until closed).

    It ends early, with a last chunk as a recorder that is stopped gives it, once *enough* says so. *bitrate*
    is the picture's, in bits per second (None: `usual_bitrate`).

    *ffmpeg* needs libvpx and libopus. *timeslice* is in seconds; slices are rounded up to 60 ms of Opus. A
    keyframe comes every *keyframe_every* frames. The same *seed* drops the same frames and cuts at the same
    places. With *realtime* a chunk is yielded when its last frame has been "drawn", or as soon as possible
    on a machine that is too slow; without, as fast as FFmpeg makes them. Raises CardFailed when FFmpeg
    fails. Closing or cancelling kills and reaps FFmpeg: use ``contextlib.aclosing`` when you leave early.
    """
    begin = time.time() + (_START_UP if realtime else 0.0)
    kbits = (bitrate or usual_bitrate(width, height, fps)) // 1000
    argv = _command(ffmpeg, seconds, width, height, fps, keyframe_every, seed, begin, kbits)
    shaper = _Shaper(round(timeslice * NS_PER_S), random.Random(seed))  # noqa: S311 - shape, not secrecy
    with tempfile.TemporaryFile() as stderr:
        process = await trio.lowlevel.open_process(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # a terminal's Ctrl-C is for us to act on, not for FFmpeg
        )
        assert process.stdout is not None  # noqa: S101 - stdout=PIPE
        start = trio.current_time() + _START_UP
        demuxer = Demuxer()
        try:
            stopped = False
            async for data in process.stdout:
                for ready_at, chunk in shaper.take(demuxer.feed(bytes(data))):
                    if realtime:
                        await trio.sleep_until(start + ready_at / NS_PER_S)
                    yield chunk
                    if stopped := enough():
                        break
                if stopped:
                    break
            ready_at, rest = shaper.finish()
            if realtime:
                await trio.sleep_until(start + ready_at / NS_PER_S)
            if rest:
                yield rest
            if not stopped and (await process.wait() != 0 or not shaper.started):
                raise CardFailed(f"the test card ended: {_last_words(stderr)}")
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
                await process.stdout.aclose()


def usual_bitrate(width: int = 640, height: int = 360, fps: int = 30) -> int:
    """The bit rate of a card's picture that nobody has set, in bits per second."""
    return max(300, width * height * fps // 7000) * 1000


test_card_chunks.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test, whatever its name


class _Shaper:
    """From FFmpeg's frames to MediaRecorder's bytes."""

    def __init__(self, timeslice: int, rng: random.Random) -> None:
        self._timeslice = timeslice
        self._random = rng
        self._tracks: dict[int, Track] = {}
        self._muxer: Muxer | None = None
        self._shifts: dict[int, int] = {}
        self._slice: list[Frame] = []
        self._cut_at = timeslice
        self._held = b""  # muxed, but behind the last boundary

    @property
    def started(self) -> bool:
        """Whether any frame came."""
        return bool(self._shifts)

    def take(self, events: list[Event]) -> Iterator[tuple[int, bytes]]:
        """Yield (the time of its last frame in ns, chunk) for each slice that *events* complete."""
        for event in events:
            if isinstance(event, Header):
                # A browser writes no DefaultDuration, and WebM's own order is video first.
                tracks = [evolve(track, default_duration=None) for track in event.tracks]
                self._tracks = {track.number: track for track in tracks}
                self._muxer = Muxer(tracks, unknown_sizes=True)
                self._held = self._muxer.header()
            elif isinstance(event, Frame):
                frame = self._on_one_clock(event)
                if self._ends_slice(frame):
                    yield self._slice[-1].timestamp, self._cut()
                    self._cut_at = frame.timestamp + self._timeslice
                self._slice.append(frame)

    def finish(self) -> tuple[int, bytes]:
        """Return everything that is left, as `take` does: the last chunk ends with its last frame."""
        ready_at = self._slice[-1].timestamp if self._slice else 0
        rest = self._held + (self._muxer.mux(self._slice) if self._muxer else b"")
        self._held, self._slice = b"", []
        return ready_at, rest

    def _on_one_clock(self, frame: Frame) -> Frame:
        # FFmpeg 5.1 counts Opus' codec delay twice and shifts the video instead: each track's first frame
        # is drawn at 0, and sounds one codec delay before that.
        delay = self._tracks[frame.track].codec_delay
        shift = self._shifts.setdefault(frame.track, -frame.timestamp - delay)
        payload = bytes(frame.payload)
        return evolve(frame, timestamp=frame.timestamp + shift, payload=payload)

    def _ends_slice(self, frame: Frame) -> bool:
        audio = self._tracks[frame.track].kind is Kind.AUDIO
        return audio and bool(self._slice) and frame.timestamp >= self._cut_at

    def _cut(self) -> bytes:
        """Mux the slice that is complete; the boundary falls into the cluster that it *begins*."""
        assert self._muxer is not None  # noqa: S101 - a frame came after its header
        # The very first cluster begins with the video, so that it holds a random access point.
        cluster = self._muxer.mux(sorted(self._slice, key=lambda frame: frame.timestamp != 0))
        self._slice = []
        into = 1 if self._random.random() < 0.05 else _first_block(cluster) + 1
        chunk, self._held = self._held + cluster[:into], cluster[into:]
        return chunk


def _first_block(cluster: bytes) -> int:
    """Offset of the first block: after the id, the size of 8 bytes and the Timestamp (RFC 9559, 5.1.3)."""
    return 4 + 8 + 2 + (cluster[13] & 0x7F)


def _command(
    ffmpeg: str,
    seconds: float | None,
    width: int,
    height: int,
    fps: int,
    keyframe_every: int,
    seed: int,
    begin: float,
    kbits: int,
) -> list[str]:
    return [
        *(ffmpeg, "-v", "error", "-nostdin", "-filter_complex", _graph(width, height, fps, seed, begin)),
        *("-map", "[v]", "-map", "[a]", *(() if seconds is None else ("-t", str(seconds)))),
        *("-fps_mode", "passthrough", "-enc_time_base:v", "1/1000", "-c:v", "libvpx", "-threads", "1"),
        *("-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-b:v", f"{kbits}k"),
        *("-g", str(keyframe_every), "-keyint_min", str(keyframe_every)),
        *("-c:a", "libopus", "-b:a", "64k", "-frame_duration", str(_PACKET_MS)),
        *("-f", "webm", "-live", "1", "-cluster_time_limit", "100", "-flush_packets", "1", "pipe:1"),
    ]


def _graph(width: int, height: int, fps: int, seed: int, begin: float) -> str:
    def even(fraction: float) -> int:
        return round(height * fraction / 2) * 2

    local = time.localtime(begin)
    of_day = (local.tm_hour * 60 + local.tm_min) * 60 + local.tm_sec + begin % 1
    flash = f"lt(mod(t,1),{FLASH_SECONDS})*gte(t,1)"
    beep = f"0.4*sin(2*PI*1000*t)*{flash}"
    milliseconds = round(begin * 1000) % 2**32
    return ";".join(
        [
            f"smptehdbars=s={width}x{height}:r={fps},format=yuv420p[card]",
            f"color=white:s={even(0.08)}x{even(0.08)}:r={fps},format=yuv420p[ball]",
            _dots(33, 7, fps, _clock(of_day)) + f",scale={even(1.1)}:{even(0.24)}:flags=neighbor[clock]",
            _dots(34, 1, fps, _bits(32, f"floor(T*1000+0.5)+{milliseconds}"))
            + f",scale={width}:{even(0.08)}:flags=neighbor[ms]",
            _dots(18, 1, fps, _bits(16, "N")) + f",scale={width}:{even(0.06)}:flags=neighbor[number]",
            f"[card][ball]overlay=x='(W-w)*abs(mod(t/2,2)-1)':y={even(0.8)}[c1]",
            f"[c1][clock]overlay=x=(W-w)/2:y={even(0.4)}[c2]",
            f"[c2]drawbox=c=white:t=fill:enable='{flash}'[c3]",
            "[c3][ms]overlay=0:0[c4]",
            f"[c4][number]overlay=0:{even(0.1)}[c5]",
            f"[c5]select='not(n)+gt({_noise('n', seed)},{_DROPPED})',settb=1/1000,"
            f"setpts='PTS+if(N,floor({_JITTER_MS}*{_noise('N', seed)}),0)'[v]",
            # In frames of one packet each: FFmpeg 5.1 mistimes the packets that it has to assemble.
            f"aevalsrc='{beep}|{beep}':c=stereo:s=48000,asetnsamples={48 * _PACKET_MS}[a]",
        ]
    )


def _noise(counter: str, seed: int) -> str:
    """The same number in [0, 1) for the same frame and seed, in every FFmpeg."""
    return f"mod(abs(sin(({counter}+{seed % 1000})*12.9898))*43758.5453,1)"


def _dots(columns: int, rows: int, fps: int, on: str) -> str:
    """A source of one pixel a dot, white where the expression *on* is 1."""
    return f"color=black:s={columns}x{rows}:r={fps},format=gray,geq=lum='255*({on})'"


def _bits(count: int, value: str) -> str:
    """A white guard bar, *count* bits of *value*, a black guard bar."""
    bit = f"mod(floor(({value})/pow(2,{count}-X)),2)"
    return f"if(eq(X,0),1,if(eq(X,{count + 1}),0,{bit}))"


def _clock(of_day: float) -> str:
    """HH:MM:SS in 3x5 dots with a column between and a row or column around."""
    now = f"floor(T+{of_day:.3f})"
    hours, minutes, seconds = f"mod(floor({now}/3600),24)", f"mod(floor({now}/60),60)", f"mod({now},60)"
    digits: list[str] = []
    for two in (hours, minutes, seconds):
        digits += [f"floor({two}/10)", f"mod({two},10)", str(len(_DIGITS))]
    glyph = _pick("floor((X-1)/4)", digits[:-1])
    dots = _pick("ld(0)", [*map(str, _DIGITS), str(_COLON)])
    bit = f"mod(floor(({dots})/pow(2,14-3*(Y-1)-mod(X-1,4))),2)"
    inside = "gte(X,1)*between(Y,1,5)*lt(mod(X-1,4),3)"
    return f"st(0,{glyph})*0+if({inside},{bit},0)"


def _pick(index: str, values: list[str]) -> str:
    """Nested ifs: the value at *index*, the last one beyond."""
    expression = values[-1]
    for at in range(len(values) - 2, -1, -1):
        expression = f"if(eq({index},{at}),{values[at]},{expression})"
    return expression


def _last_words(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    lines = stderr.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "FFmpeg said nothing"
