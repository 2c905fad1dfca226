"""FFmpeg's command lines, word for word, and what it prints: progress, and causes of death."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from attrs import evolve

from ingestd.config import Audio, Video
from ingestd.media.ffmpeg import encoder_args, remux_args, writer_args
from ingestd.media.ffmpeg_output import Progress, ProgressParser, StderrParser, masked
from ingestd.media.frames import NS_PER_S, Kind, Track
from tests.support.captures import capture
from tests.support.processes import free_port

VIDEO = Track(number=1, kind=Kind.VIDEO, codec="vp8", width=64, height=48)
AUDIO = Track(number=2, kind=Kind.AUDIO, codec="opus", sample_rate=48000, channels=2)

COMMON = "/bin/ff -hide_banner -nostdin -loglevel level+warning -stats_period 0.25 -progress pipe:{fd}"
INPUT = "-protocol_whitelist pipe -probesize 32 -copyts -f matroska -i pipe:0"
OUTPUT = (
    "-avoid_negative_ts disabled -f matroska -cluster_time_limit 100 -flush_packets 1"
    " -protocol_whitelist pipe -y pipe:1"
)
CANVAS = (
    "scale=1280:720:force_original_aspect_ratio=decrease:force_divisible_by=2"
    ":out_color_matrix=bt709:out_range=tv,pad=1280:720:-1:-1,setsar=1,format=yuv420p"
    ",setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
)
X264 = (
    "-chroma_sample_location left"
    " -c:v libx264 -preset veryfast -tune zerolatency -profile:v main -b:v 2500000 -maxrate 2800000"
    " -bufsize 4000000 -force_key_frames expr:{expr} -sc_threshold 0 -bf 0 -g 120"
)
PUSH = "-map 0 -c copy -protocol_whitelist rtmps,tls,tcp -f flv rtmps://h/app/k"
REMUX = (
    "/bin/ff -hide_banner -nostdin -loglevel level+warning -protocol_whitelist file -f matroska -i file:{}"
    " -map 0 -c copy -bsf:v setts=duration='if(DURATION,DURATION,if(N,DTS-PREV_INDTS,1))'"
    " -map_metadata 0 -movflags +faststart -f mp4 -protocol_whitelist file -y file:{}"
)
STEADY = (
    "asetpts='st(1,NB_CONSUMED_SAMPLES/SR);st(2,PTS*TB-ld(1));if(lt(abs(ld(2)-ld(0)),0.02),st(3,ld(1)));"
    "if(not(N)+gt(abs(ld(2)-ld(0)),0.25)+gt(ld(1)-ld(3),0.5),st(0,ld(2)));round((ld(0)+ld(1))/TB)'"
)
AAC = "-c:a aac -ar 44100 -ac 2 -b:a 128000"


def keyframes(shift: str) -> str:
    return f"if(isnan(prev_forced_t),1,gt(floor((t+{shift})/2),floor((prev_forced_t+{shift})/2)))"


def test_the_encoder_of_the_default_pipeline() -> None:
    """The first life: the field's x264 and AAC settings, a fixed rate, a fixed canvas, an IDR every 2 s."""
    assert encoder_args("/bin/ff", Video(), Audio(), (VIDEO, AUDIO)) == [
        *COMMON.format(fd=3).split(),
        *INPUT.split(),
        *f"-map 0:v:0 -filter:v fps=30,{CANVAS}".split(),
        *X264.format(expr=keyframes("0.008333")).split(),
        *f"-map 0:a:0 -filter:a {STEADY},aresample=async=1:min_hard_comp=0.02 {AAC}".split(),
        *OUTPUT.split(),
    ]


def test_an_encoder_that_goes_on() -> None:
    """A later life cuts off what is there, after `fps`, and keeps the phase of the keyframes."""
    args = encoder_args(
        "/bin/ff", Video(), Audio(), (VIDEO, AUDIO),
        start=9 * NS_PER_S + 33_333_333, audio_start=9_011_000_000, origin=33_333_333, progress_fd=11,
    )  # fmt: skip
    assert args == [
        *COMMON.format(fd=11).split(),
        *INPUT.split(),
        *f"-map 0:v:0 -filter:v fps=30:start_time=9,trim=start=9.033333,{CANVAS}".split(),
        *X264.format(expr=keyframes("9.008333")).split(),
        "-map",
        "0:a:0",
        "-filter:a",
        f"{STEADY},aresample=44100,aresample=async=1:min_hard_comp=0.02:first_pts=397385,atrim=start=9.011000",
        *AAC.split(),
        *OUTPUT.split(),
    ]


def test_one_track_and_copies() -> None:
    """What is not there is generated, from just before the cut on; what is copied is not filtered."""
    video_only = encoder_args("/bin/ff", Video(), Audio(), (VIDEO,), threads=2)
    assert "0:a:0" not in video_only
    assert "anullsrc=r=44100:cl=stereo" in video_only
    assert "-shortest" in video_only
    assert video_only[video_only.index("-threads") :][:2] == ["-threads", "2"]
    audio_only = encoder_args("/bin/ff", Video(), Audio(), (AUDIO,))
    assert "0:v:0" not in audio_only
    assert "color=c=black:s=1280x720:r=30" in audio_only
    later = encoder_args("/bin/ff", Video(), Audio(), (AUDIO,), start=9 * NS_PER_S + 33_333_333)
    assert later[later.index("-itsoffset") + 1] == "8"
    copied = encoder_args("/bin/ff", Video(), Audio(), (VIDEO, AUDIO), copy_video=True)
    assert copied[copied.index("0:v:0") :][:3] == ["0:v:0", "-c:v", "copy"]
    assert "libx264" not in copied
    copied = encoder_args("/bin/ff", Video(), Audio(), (VIDEO, AUDIO), copy_audio=True)
    assert copied[copied.index("0:a:0") :][:3] == ["0:a:0", "-c:a", "copy"]


def test_a_rate_that_is_no_whole_number() -> None:
    """29.97 frames a second and keyframes every 1.5 s are taken as they are."""
    video = evolve(Video(), fps=29.97, keyframe_interval=1.5)
    args = encoder_args("/bin/ff", video, Audio(), (VIDEO,))
    assert args[args.index("-filter:v") + 1].startswith("fps=29.97,")
    assert "/1.5)" in args[args.index("-force_key_frames") + 1]
    assert args[args.index("-g") + 1] == "90"
    later = encoder_args("/bin/ff", video, Audio(), (VIDEO,), start=249 * NS_PER_S)
    assert later[later.index("-filter:v") + 1].startswith("fps=29.97:start_time=200,trim=start=249.000000,")
    # To the last digit, or the daemon counts other slots than FFmpeg after some hours.
    args = encoder_args("/bin/ff", evolve(Video(), fps=23.976023976), Audio(), (VIDEO,))
    assert args[args.index("-filter:v") + 1].startswith("fps=23.976023976,")


def test_a_writer_copies_and_may_use_its_protocols_only() -> None:
    """A writer maps everything, copies it, and its output may open the sink's protocols alone."""
    args = writer_args("/bin/ff", ("-f", "flv", "rtmps://h/app/k"), ("rtmps", "tls", "tcp"), progress_fd=7)
    assert args == [
        *COMMON.format(fd=7).split(),
        *INPUT.split(),
        *PUSH.split(),
    ]


def test_a_remux_takes_names_as_names() -> None:
    """File names with a colon or a per cent sign are no protocols and no patterns."""
    assert remux_args("/bin/ff", "/r/a:b%d.part", "/r/a:b%d.mp4") == [
        *REMUX.format("/r/a:b%d.part", "/r/a:b%d.mp4").split(),
    ]


def test_masked_arguments() -> None:
    """A secret is replaced wherever it stands in an argument; an empty one hides nothing."""
    assert masked(["-f", "flv", "rtmps://h/app/key?x=key"], ("key", "")) == [
        "-f",
        "flv",
        "rtmps://h/app/***?x=***",
    ]


REPORT = (
    b"frame=150\nfps=29.97\nstream_0_0_q=-1.0\nbitrate=2500.1kbits/s\ntotal_size=123456\n"
    b"out_time_us=5005000\nout_time_ms=5005000\nout_time=00:00:05.005000\ndup_frames=2\ndrop_frames=1\n"
    b"speed=1.01x\nprogress=continue\n"
)


@pytest.mark.parametrize("seed", range(20))
def test_progress_cut_anywhere(seed: int) -> None:
    """However the pipe cuts the lines, each report comes once, whole."""
    rng = random.Random(seed)
    data = REPORT * 3
    parser, reports = ProgressParser(), []
    while data:
        size = rng.randint(1, rng.choice([3, 40, 400]))
        reports += parser.feed(data[:size])
        data = data[size:]
    assert reports == [Progress(5.005, 150, 29.97, 1.01, 1, 2, 123456)] * 3


def test_progress_before_the_first_packet() -> None:
    """N/A, odd and missing values are no numbers, and nothing of a report is in the next one."""
    parser = ProgressParser()
    assert parser.feed(b"frame=7\nprogress=continue\n") == [Progress(frame=7)]
    odd = b"out_time_us=N/A\ntotal_size=N/A\nspeed=N/A\nfps=nan\nframe=inf\nnoise\n=\nprogress=end\n"
    assert parser.feed(odd) == [Progress()]


def test_progress_is_bounded() -> None:
    """A line that never ends does not fill the memory."""
    parser = ProgressParser()
    for _ in range(100):
        parser.feed(b"x" * 10_000)
    assert len(parser._rest) <= 4096
    assert parser.feed(b"\nframe=1\nprogress=end\n") == [Progress(frame=1)]


#: What FFmpeg 5.1 and 9.0 say, and what the operator is told.
SAID = {
    "connection refused: nothing listens there": (
        "[tcp @ 0x5606cf] [error] Connection to tcp://127.0.0.1:9 failed: Connection refused",
        "[out#0/flv @ 0x5606] [fatal] Error opening output rtmps://127.0.0.1:9/app/k: Connection refused",
    ),
    "the host name cannot be resolved": (
        "[tcp @ 0x564b25] [error] Failed to resolve hostname nowhere.invalid: Name or service not known",
    ),
    "this FFmpeg lacks the protocol": (
        "[error] httpx://127.0.0.1/app: Protocol not found",
        "[http @ 0x55aed1] [error] Protocol 'http' not on whitelist 'rtmp,tcp'!",
    ),
    "the disk is full": (
        "[error] av_interleaved_write_frame(): No space left on device",
        "[out#0/flv @ 0x561887] [error] Task finished with error code: -28 (No space left on device)",
    ),
    "the RTMP handshake failed": (
        "[rtmp @ 0x5601e3] [error] Cannot read RTMP handshake response\n"
        "[error] rtmp://127.0.0.1:19350/app/k: Connection reset by peer",
    ),
    "the target closed the connection": ("[error] av_interleaved_write_frame(): Broken pipe",),
    "the target does not answer in time": (
        "[tcp @ 0x55] [error] Connection to tcp://192.0.2.1:1935 failed: Connection timed out",
    ),
    "the server refused the stream": ("[rtmp @ 0x5573] [error] Server error: Stream is already publishing",),
    "FFmpeg cannot read its input": (
        "[matroska,webm @ 0x556bc9] [error] EBML header parsing failed",
        "[in#0 @ 0x55b860] [error] Error opening input: Invalid data found when processing input",
    ),
    "the container cannot take this codec": (
        "[flv @ 0x564ec6] [error] Video codec vp8 not compatible with flv",
        "[error] Could not write header for output file #0 (incorrect codec parameters ?): Not implemented",
    ),
    "this FFmpeg lacks the encoder": ("[vost#0:0 @ 0x5578] [fatal] Unknown encoder 'libfoo'",),
    "TLS: the certificate has expired": ("[tls @ 0x1] [error] error:0A000086: certificate has expired",),
}


@pytest.mark.parametrize(
    ("text", "cause"), [(text, cause) for cause, texts in SAID.items() for text in texts]
)
def test_causes(text: str, cause: str) -> None:
    """Each thing that FFmpeg says has one name for the operator, with FFmpeg's own words behind it."""
    parser = StderrParser()
    data = b"[warning] something else\n" + text.encode() + b"\n[fatal] Error opening output files: Failed\n"
    for at in range(0, len(data), 7):
        parser.feed(data[at : at + 7])
    assert parser.cause() == f"{cause} ({text.splitlines()[0].rpartition('] ')[2]})"


def test_a_cause_without_a_name() -> None:
    """What has no name is told in FFmpeg's words: its last error, else its last line, else nothing."""
    parser = StderrParser()
    assert parser.cause() is None
    parser.feed(b"[info] one\r[info] two\r\n\n")
    assert parser.cause() == "two"
    parser.feed(b"[error] first\n[error] second\n[info] three\n")
    assert parser.cause() == "second"
    assert parser.warnings == 5


def test_secrets_across_every_cut() -> None:
    """However a line with a secret is cut, and however long it is, no part of the secret is kept."""
    key = "0123456789abcdef"
    for padding in (0, 480, 490, 495, 4070, 4085, 4095, 9000):
        text = b"[error] " + b"." * padding + key.encode() + b": Connection refused"
        for ending in (b"", b"\n"):
            data = text + ending
            for at in {1, padding + 1, padding + 8, padding + 14, padding + 23, len(data)}:
                parser = StderrParser((key,))
                lines = parser.feed(data[:at]) + parser.feed(data[at:]) + parser.feed(b"\n")
                shown = " ".join([*lines, *parser.lines, parser.cause() or ""])
                assert "cdef" not in shown
                assert "0123" not in shown


def test_stderr_is_bounded() -> None:
    """The last twenty lines are kept, 500 characters of each."""
    parser = StderrParser()
    for number in range(1000):
        parser.feed(b"[error] %d " % number + b"x" * 2000 + b"\n")
    assert len(parser.lines) == 20
    assert max(map(len, parser.lines)) <= 501
    assert parser.lines[-1].startswith("[error] 999 ")
    parser.feed(b"y" * 10**6)
    assert len(parser._rest) <= 4096


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("rtmp://127.0.0.1:{port}/app/k", "connection refused: nothing listens there"),
        ("rtmps://127.0.0.1:{port}/app/k", "connection refused: nothing listens there"),
        ("rtmp://nowhere.invalid/app/k", "the host name cannot be resolved"),
        ("rtmpx://127.0.0.1:{port}/app/k", "this FFmpeg lacks the protocol"),
        ("http://127.0.0.1:{port}/app/k", "this FFmpeg lacks the protocol"),
    ],
)
def test_causes_of_the_real_ones(each_ffmpeg: str, target: str, cause: str) -> None:
    """What both FFmpegs really say of a target that cannot be reached is understood."""
    url = target.format(port=free_port())
    args = writer_args(each_ffmpeg, ("-f", "flv", url), ("rtmp", "rtmps", "tls", "tcp"))
    data = capture("cv-h264webm-100.mkv").data()
    args[args.index("-map") : args.index("-c")] = ["-map", "0:v"]
    done = subprocess.run(args, input=data, capture_output=True, timeout=60)
    assert done.returncode != 0
    parser = StderrParser()
    parser.feed(done.stderr)
    assert str(parser.cause()).startswith(f"{cause} (")


def test_a_full_disk_with_the_real_ones(each_ffmpeg: str) -> None:
    """What both FFmpegs really say of a full disk is understood."""
    args = writer_args(each_ffmpeg, ("-f", "matroska", "-y", "/dev/full"), ("file",))
    data = capture("cv-vp8-250.webm").data()
    done = subprocess.run(args, input=data, capture_output=True, timeout=60)
    assert done.returncode != 0
    parser = StderrParser()
    parser.feed(done.stderr)
    assert str(parser.cause()).startswith("the disk is full (")


def test_the_real_ones_take_the_command_lines(each_ffmpeg: str, tmp_path: Path) -> None:
    """Both FFmpegs run the encoder and a writer as we call them, without a warning of our options."""
    tracks = (VIDEO, AUDIO)
    args = encoder_args(each_ffmpeg, evolve(Video(), size=(320, 180)), Audio(), tracks, progress_fd=2)
    encoded = subprocess.run(
        args, input=capture("cv-vp8-250.webm").data()[:300_000], capture_output=True, timeout=60
    )
    assert encoded.returncode == 0
    reports = ProgressParser().feed(encoded.stderr)
    # With -copyts the newer one counts from the time of its first report.
    assert reports[-1].out_time is not None
    assert reports[-1].frame > 10
    assert reports[-1].size == len(encoded.stdout)
    target = tmp_path / "out.flv"
    args = writer_args(each_ffmpeg, ("-f", "flv", "-y", str(target)), ("file",), progress_fd=1)
    written = subprocess.run(args, input=encoded.stdout, capture_output=True, timeout=60)
    assert (written.returncode, written.stderr) == (0, b"")
    assert target.stat().st_size > 10_000
