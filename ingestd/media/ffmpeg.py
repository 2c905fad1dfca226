"""FFmpeg's command lines. No I/O: argv lists out; what it prints is `ingestd.media.ffmpeg_output`'s.

Measured facts behind the options are in ``docs/ffmpeg.md``.
"""

from __future__ import annotations

from fractions import Fraction

from ingestd.config import Audio, Video
from ingestd.media.frames import NS_PER_S, Kind, Track

#: The daemon's Matroska on stdin. The muxer writes complete headers, so nothing needs probing; without
#: `-copyts` each life would start at 0.
_INPUT = ("-protocol_whitelist", "pipe", "-probesize", "32", "-copyts", "-f", "matroska", "-i", "pipe:0")

#: FFmpeg's rates are fractions, with denominators of at most so much: so many seconds have whole frames.
_FFMPEG_RATES = 1_001_000
#: Seconds that a picture may be repeated for, and dropped again, where a source begins later (1001: NTSC's).
_MAX_FILL = 1001
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
    shift: int = 0,
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
    in the phase that they had since *origin* (ns), the program's first frame. By *shift* (ns) the program
    is later than the source, for slates that it has shown. A source that begins later
    is filled up with its first picture, and with silence.
    """
    kinds = {track.kind for track in tracks}
    fill: list[str] = []
    picture, sound = "0:v:0", "0:a:0"
    if Kind.VIDEO not in kinds:
        width, height = video.size
        fill = _generated(f"color=c=black:s={width}x{height}:r={video.fps:.12g}", start)
        picture = "1:v:0"
    elif Kind.AUDIO not in kinds:
        layout = "mono" if audio.channels == 1 else "stereo"
        fill = _generated(f"anullsrc=r={audio.sample_rate}:cl={layout}", audio_start)
        sound = "1:a:0"
    return [
        *_common(exe, progress_fd), *(["-itsoffset", _seconds(shift)] if shift else []), *_INPUT, *fill,
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


def slate_args(
    exe: str,
    video: Video,
    audio: Audio,
    *,
    colour: str,
    image: str | None = None,
    text_file: str | None = None,
) -> list[str]:
    """A still picture and silence, as `encoder_args` would encode them, in Matroska on stdout.

    *colour* (``#rrggbb``) fills the canvas, or is behind *image*. *text_file* holds the words to show; its
    path may have no character that means something to a filter.
    """
    width, height = video.size
    canvas = f"color=c=0x{colour[1:]}:s={width}x{height}:r={video.fps:.12g}"
    layout = "mono" if audio.channels == 1 else "stereo"
    picture = [
        "-f",
        "lavfi",
        "-i",
        canvas,
        "-f",
        "lavfi",
        "-i",
        f"anullsrc=r={audio.sample_rate}:cl={layout}",
    ]
    over, words = "[0:v]null[p]", ""
    if image is not None:
        picture += ["-protocol_whitelist", "file", "-i", f"file:{image}"]
        fit = f"scale={width}:{height}:force_original_aspect_ratio=decrease"
        over = f"[2:v]{fit}[i];[0:v][i]overlay=(W-w)/2:(H-h)/2:eof_action=repeat[p]"
    if text_file is not None:
        size = height // 14
        words = (
            f",drawtext=textfile={text_file}:expansion=none:fontcolor=white:fontsize={size}"
            f":line_spacing={size // 3}:box=1:boxcolor=black@0.45:boxborderw=16:x=(w-text_w)/2:y=(h-text_h)/2"
        )
    graph = f"{over};[p]{','.join(_picture_filters(video))}{words},{_COLOURS}[v]"
    return [
        exe, "-hide_banner", "-nostdin", "-loglevel", "level+warning", *picture,
        "-filter_complex", graph, "-map", "[v]", "-map", "1:a", *_x264_args(video, 0),
        "-c:a", audio.codec, "-ar", str(audio.sample_rate), "-ac", str(audio.channels),
        "-b:a", str(audio.bitrate), "-t", f"{video.keyframe_interval:.12g}",
        "-avoid_negative_ts", "disabled", "-f", "matroska", "-protocol_whitelist", "pipe", "-y", "pipe:1",
    ]  # fmt: skip


def _generated(source: str, start: int | None) -> list[str]:
    """An input that FFmpeg makes up, from *start* (ns on the timeline) on; the real one paces it."""
    # A second early: what is before the start is cut off as the real source's would be.
    offset = max(0, (start or 0) // NS_PER_S - 1)
    return ["-itsoffset", str(offset), "-f", "lavfi", "-i", source]


def _video_args(video: Video, start: int | None, origin: int) -> list[str]:
    filters = [f"fps={video.fps:.12g}"]
    if start is not None:
        # From a moment that lies on the grid, else `fps` would round otherwise than the life before.
        whole = Fraction(video.fps).limit_denominator(_FFMPEG_RATES).denominator
        if whole <= _MAX_FILL:
            filters = [f"{filters[0]}:start_time={start // NS_PER_S // whole * whole}"]
        filters.append(f"trim=start={_seconds(start)}")
    filters += [*_picture_filters(video), _COLOURS]
    return ["-filter:v", ",".join(filters), *_x264_args(video, 0 if start is None else start - origin)]


#: Whatever the source says of its colours, the program says one thing: its headers never change.
_COLOURS = "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"


def _picture_filters(video: Video) -> list[str]:
    """Phones rotate: any picture goes, whole, onto one canvas."""
    width, height = video.size
    return [
        f"scale={width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2"
        ":out_color_matrix=bt709:out_range=tv",
        f"pad={width}:{height}:-1:-1",
        "setsar=1",
        "format=yuv420p",
    ]


def _x264_args(video: Video, phase: int) -> list[str]:
    """The encoder's options, all of which show in the codec configuration; *phase* (ns) of the keyframes."""
    return [
        "-chroma_sample_location", "left",
        "-c:v", "libx264", "-preset", video.preset, "-tune", "zerolatency", "-profile:v", video.profile,
        "-b:v", str(video.bitrate), "-maxrate", str(video.maxrate), "-bufsize", str(video.bufsize),
        "-force_key_frames", f"expr:{_keyframe_expression(video, phase)}",
        # -g only bounds the distance, should a forced one fail to come.
        "-sc_threshold", "0", "-bf", "0", "-g", str(round(video.fps * video.keyframe_interval * 2)),
    ]  # fmt: skip


def _keyframe_expression(video: Video, phase: int) -> str:
    """A keyframe at the first frame and at each multiple of the interval; *t* starts at 0 in each life."""
    # A quarter of a frame: a timestamp just below the multiple, by rounding, counts as the multiple.
    shift = f"{phase / NS_PER_S + 0.25 / video.fps:.6f}"
    interval = f"{video.keyframe_interval:.12g}"
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


def thumbnail_args(exe: str, width: int = 640) -> list[str]:
    """One picture of Matroska on stdin as a JPEG on stdout, at most *width* pixels wide."""
    return [
        exe, "-hide_banner", "-nostdin", "-loglevel", "error",
        "-protocol_whitelist", "pipe", "-f", "matroska", "-i", "pipe:0",
        "-map", "0:v:0", "-frames:v", "1", "-vf", f"scale='min({width},iw)':-2:out_range=full",
        "-threads", "1", "-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p",
        "-f", "image2pipe", "-protocol_whitelist", "pipe", "pipe:1",
    ]  # fmt: skip
