"""FFmpeg's command lines and what it prints. No I/O: argv lists out, text in.

Measured facts behind the options are in ``docs/ffmpeg.md``.
"""

from __future__ import annotations

import math
import re
from collections import deque

from attrs import define, field, frozen

from ingestd.config import Audio, Video
from ingestd.media.frames import NS_PER_S, Kind, Track

MASK = "***"

#: The daemon's Matroska on stdin. The muxer writes complete headers, so nothing needs probing; without
#: `-copyts` each life would start at 0.
_INPUT = ("-protocol_whitelist", "pipe", "-probesize", "32", "-copyts", "-f", "matroska", "-i", "pipe:0")

#: Whole seconds (in ns) in which any frame rate of two decimals has a whole number of frames.
_ON_GRID = 100 * NS_PER_S
#: Sound goes by its samples. A browser's timestamps stray by 10 ms, and a busy one's tell when it found the
#: time. But what is 20 ms off for half a second (a splice, a drift), or 250 ms at once, is out of place.
_OUT_OF_PLACE = 0.02
_STEADY = (
    "asetpts='"
    "st(1,NB_CONSUMED_SAMPLES/SR);"
    "st(2,PTS*TB-ld(1));"  # when the first sample was, going by this timestamp; ld(0) is what holds
    f"if(lt(abs(ld(2)-ld(0)),{_OUT_OF_PLACE}),st(3,ld(1)));"
    "if(not(N)+gt(abs(ld(2)-ld(0)),0.25)+gt(ld(1)-ld(3),0.5),st(0,ld(2)));"
    "round((ld(0)+ld(1))/TB)'"
)


def _common(exe: str, progress_fd: int) -> list[str]:
    return [
        exe, "-hide_banner", "-nostdin", "-loglevel", "level+warning",
        "-stats_period", "0.25", "-progress", f"pipe:{progress_fd}",
    ]  # fmt: skip


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / NS_PER_S:.6f}"


def encoder_args(
    exe: str,
    video: Video,
    audio: Audio,
    tracks: tuple[Track, ...],
    *,
    start: int | None = None,
    audio_start: int | None = None,
    origin: int = 0,
    copy_video: bool = False,
    copy_audio: bool = False,
    threads: int = 0,
    progress_fd: int = 3,
) -> list[str]:
    """The encoder: Matroska with *tracks* on stdin, H.264 and AAC in Matroska on stdout.

    There are always both, so that nothing changes for the sinks when the source's tracks do: a missing
    picture is black, a missing sound silent. What is copied passes through as it is; after a restart
    the caller drops what overlaps.

    *start* and *audio_start* (ns on the timeline) cut off what an earlier life has encoded: the
    first frame out is an IDR in the first missing slot of the fixed-rate grid, and keyframes go on
    in the phase that they had since *origin* (ns), the program's first frame. A source that begins later
    is filled up with its first picture, and with silence.
    """
    kinds = {track.kind for track in tracks}
    fill: list[str] = []
    picture, sound = "0:v:0", "0:a:0"
    if Kind.VIDEO not in kinds:
        width, height = video.size
        fill = _generated(f"color=c=black:s={width}x{height}:r={video.fps:g}", start)
        picture = "1:v:0"
    elif Kind.AUDIO not in kinds:
        layout = "mono" if audio.channels == 1 else "stereo"
        fill = _generated(f"anullsrc=r={audio.sample_rate}:cl={layout}", audio_start)
        sound = "1:a:0"
    return [
        *_common(exe, progress_fd), *_INPUT, *fill,
        "-map", picture, *(["-c:v", "copy"] if copy_video else _video_args(video, start, origin)),
        *(["-threads", str(threads)] if threads else []),
        "-map", sound, *(["-c:a", "copy"] if copy_audio else _audio_args(audio, audio_start)),
        # What is generated has no end of its own.
        *(["-shortest"] if fill else []),
        # Without this the muxer shifts everything by the AAC priming, in the first life only.
        "-avoid_negative_ts", "disabled",
        # A cluster leaves when it is complete: by default after 32 KB or 1 s.
        "-f", "matroska", "-cluster_time_limit", "100", "-flush_packets", "1",
        "-protocol_whitelist", "pipe", "-y", "pipe:1",
    ]  # fmt: skip


def _generated(source: str, start: int | None) -> list[str]:
    """An input that FFmpeg makes up, from *start* (ns on the timeline) on; the real one paces it."""
    # A second early: what is before the start is cut off as the real source's would be.
    offset = max(0, (start or 0) // NS_PER_S - 1)
    return ["-itsoffset", str(offset), "-f", "lavfi", "-i", source]


def _video_args(video: Video, start: int | None, origin: int) -> list[str]:
    width, height = video.size
    filters = [f"fps={video.fps:g}"]
    if start is not None:
        # From a moment that lies on the grid, else `fps` would round otherwise than the life before.
        on_grid = start // _ON_GRID * _ON_GRID // NS_PER_S
        filters = [f"fps={video.fps:g}:start_time={on_grid}", f"trim=start={_seconds(start)}"]
    filters += [
        # Phones rotate: any picture goes, whole, onto one canvas.
        f"scale={width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2"
        ":out_color_matrix=bt709:out_range=tv",
        f"pad={width}:{height}:-1:-1",
        "setsar=1",
        "format=yuv420p",
        # Whatever the source says of its colours, the program says one thing: its headers never change.
        "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709",
    ]
    return [
        "-filter:v", ",".join(filters), "-chroma_sample_location", "left",
        "-c:v", "libx264", "-preset", video.preset, "-tune", "zerolatency", "-profile:v", video.profile,
        "-b:v", str(video.bitrate), "-maxrate", str(video.maxrate), "-bufsize", str(video.bufsize),
        "-force_key_frames", f"expr:{_keyframe_expression(video, 0 if start is None else start - origin)}",
        # -g only bounds the distance, should a forced one fail to come.
        "-sc_threshold", "0", "-bf", "0", "-g", str(round(video.fps * video.keyframe_interval * 2)),
    ]  # fmt: skip


def _keyframe_expression(video: Video, phase: int) -> str:
    """A keyframe at the first frame and at each multiple of the interval; *t* starts at 0 in each life."""
    # A quarter of a frame: a timestamp just below the multiple, by rounding, counts as the multiple.
    shift = f"{phase / NS_PER_S + 0.25 / video.fps:.6f}"
    interval = f"{video.keyframe_interval:g}"
    return (
        f"if(isnan(prev_forced_t),1,"
        f"gt(floor((t+{shift})/{interval}),floor((prev_forced_t+{shift})/{interval})))"
    )


def _audio_args(audio: Audio, start: int | None) -> list[str]:
    # Fill and trim to the timestamps, so that a gap in the source does not shift what follows.
    filters = [_STEADY, f"aresample=async=1:min_hard_comp={_OUT_OF_PLACE}"]
    if start is not None:
        # `first_pts` is in samples of the input: in ours only once it has our rate.
        first = round(start * audio.sample_rate / NS_PER_S)
        filters.insert(1, f"aresample={audio.sample_rate}")
        filters[-1] += f":first_pts={first}"
        filters.append(f"atrim=start={_seconds(start)}")
    return [
        "-filter:a", ",".join(filters),
        "-c:a", audio.codec, "-ar", str(audio.sample_rate), "-ac", str(audio.channels),
        "-b:a", str(audio.bitrate),
    ]  # fmt: skip


def writer_args(
    exe: str, args: tuple[str, ...], protocols: tuple[str, ...], *, progress_fd: int = 1
) -> list[str]:
    """A stream-copy writer: Matroska on stdin, out as a sink's *args* say, to *protocols* only."""
    return [
        *_common(exe, progress_fd), *_INPUT, "-map", "0", "-c", "copy",
        "-protocol_whitelist", ",".join(protocols), *args,
    ]  # fmt: skip


#: A copied browser's frames have no durations; without one MP4's edit list cuts off the last frame.
_DURATIONS = "setts=duration='if(DURATION,DURATION,if(N,DTS-PREV_INDTS,1))'"


def remux_args(exe: str, source: str, target: str) -> list[str]:
    """Copy the file *source* to an MP4 *target* with its index in front."""
    return [
        exe, "-hide_banner", "-nostdin", "-loglevel", "level+warning",
        "-protocol_whitelist", "file", "-f", "matroska", "-i", f"file:{source}", "-map", "0", "-c", "copy",
        "-bsf:v", _DURATIONS, "-map_metadata", "0", "-movflags", "+faststart", "-f", "mp4",
        "-protocol_whitelist", "file", "-y", f"file:{target}",
    ]  # fmt: skip


def masked(args: list[str], secrets: tuple[str, ...]) -> list[str]:
    """*args* as they may be shown: every one of *secrets* is replaced."""
    return [mask(arg, secrets) for arg in args]


def mask(text: str, secrets: tuple[str, ...]) -> str:
    """*text* with every one of *secrets* replaced."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    return text


@frozen(slots=True)
class Progress:
    """One report of ``-progress``. It runs ahead of the disk or behind it: for people and watchdogs only.

    *out_time* in seconds, *fps* and *speed* as FFmpeg averages them since its start.
    """

    out_time: float | None = None
    frame: int = 0
    fps: float = 0.0
    speed: float = 0.0
    dropped: int = 0
    duplicated: int = 0
    size: int = 0

    def beyond(self, other: Progress) -> bool:
        """True if output has gone on since *other*: some muxers tell no size, -copyts starts time late."""
        return (
            (self.out_time or 0.0) > (other.out_time or 0.0)
            or self.frame > other.frame
            or self.size > other.size
        )


@define
class ProgressParser:
    """``-progress`` lines in, a `Progress` at each ``progress=`` line out."""

    _rest: bytes = b""
    _values: dict[str, str] = field(factory=dict)

    def feed(self, data: bytes) -> list[Progress]:
        reports = []
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-4096:]
        for line in lines:
            key, _, value = line.decode("ascii", "replace").partition("=")
            self._values[key.strip()] = value.strip()
            if key == "progress":
                reports.append(self._report())
                self._values.clear()
        return reports

    def _report(self) -> Progress:
        microseconds = self._number("out_time_us")
        return Progress(
            out_time=None if microseconds is None else microseconds / 1e6,
            frame=int(self._number("frame") or 0),
            fps=self._number("fps") or 0.0,
            speed=self._number("speed") or 0.0,
            dropped=int(self._number("drop_frames") or 0),
            duplicated=int(self._number("dup_frames") or 0),
            size=int(self._number("total_size") or 0),
        )

    def _number(self, key: str) -> float | None:
        try:
            value = float(self._values.get(key, "").removesuffix("x"))
        except ValueError:
            return None
        return value if math.isfinite(value) else None


#: What FFmpeg says, and what it means to the operator. The first match in the order of this list wins.
_CAUSES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), cause)
    for pattern, cause in (
        (r"no space left on device", "the disk is full"),
        (r"permission denied", "permission denied"),
        (r"certificate.*expired|expired.*certificate", "TLS: the certificate has expired"),
        (
            r"hostname mismatch|owner.*does not match|certificate.*hostname",
            "TLS: the certificate is for another host",
        ),
        (
            r"unable to get local issuer|self.signed|unknown ca|certificate.*not trusted",
            "TLS: the certificate is not from a trusted authority",
        ),
        (
            # All that GnuTLS says of a foreign authority and of an expired one, and OpenSSL of any fault.
            r"certificate verif|peer certificate failed",
            "TLS: the certificate cannot be verified: it is not from a trusted authority, has expired, "
            "or is for another host",
        ),
        (r"error in the (pull|push) function|tls.*(handshake|error)|ssl.*error", "TLS: the handshake failed"),
        (r"connection refused|error number -111", "connection refused: nothing listens there"),
        (
            r"failed to resolve|name or service not known|could not resolve",
            "the host name cannot be resolved",
        ),
        (r"timed out|error number -110", "the target does not answer in time"),
        (r"no route to host|network is unreachable", "the network is unreachable"),
        # Before the reset that it ends with: whoever listens there does not speak RTMP.
        (r"handshake failed|cannot read rtmp handshake", "the RTMP handshake failed"),
        (
            r"connection reset|broken pipe|end of file.*rtmp|error number -104",
            "the target closed the connection",
        ),
        (r"server error: (.+)", "the server refused the stream"),
        (
            r"ebml header parsing failed|invalid data found when processing input",
            "FFmpeg cannot read its input",
        ),
        (r"unknown encoder|encoder .* not found", "this FFmpeg lacks the encoder"),
        (r"protocol not found|protocol .* not on whitelist", "this FFmpeg lacks the protocol"),
        (
            r"codec .* not compatible with|could not (find tag|write header)|incorrect codec parameters"
            r"|not supported in",
            "the container cannot take this codec",
        ),
    )
)  # fmt: skip


_LONGEST_LINE = 4096
_SHOWN = 500


@define
class StderrParser:
    """FFmpeg's stderr (``-loglevel level+…``) in, its cause of death out. Bounded: the last 20 lines."""

    secrets: tuple[str, ...] = ()
    lines: deque[str] = field(init=False, factory=lambda: deque(maxlen=20))
    warnings: int = 0
    _rest: bytes = b""

    def feed(self, data: bytes) -> list[str]:
        """Take *data*; returns the lines that it completed, masked."""
        *raw, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            # A secret is cut in two only where the line goes on, and that end stays.
            self._rest = self._masked(self._rest).encode()[-_LONGEST_LINE:]
        lines = [line for line in map(self._masked, raw) if line]
        lines = [line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…" for line in lines]
        self.lines.extend(lines)
        self.warnings += len(lines)
        return lines

    def _masked(self, line: bytes) -> str:
        return mask(line.decode("utf-8", "replace").strip(), self.secrets)

    def cause(self) -> str | None:
        """The named cause with FFmpeg's own words, its last error line, or None if it said nothing."""
        # A dying process may not come to the end of its last line.
        lines = [line for line in (*self.lines, self._masked(self._rest)[:_SHOWN]) if line]
        for pattern, cause in _CAUSES:
            for line in lines:
                if pattern.search(line):
                    return f"{cause} ({line})"
        errors = [line for line in lines if "[error]" in line or "[fatal]" in line]
        return next(reversed(errors or lines), None)
