"""Matroska as the daemon feeds it to a writer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support.packages import program as executable

#: H.264 with a keyframe every second and AAC: what the encoder makes.
_PROGRAM = (
    "-f lavfi -i testsrc=s=160x90:r=30:d={seconds} -f lavfi -i sine=r=44100:d={seconds} -map 0 -map 1 "
    "-c:v libx264 -preset ultrafast -tune zerolatency -g 30 -keyint_min 30 -sc_threshold 0 "
    "-pix_fmt yuv420p -c:a aac -ac 2"
)


def program(path: Path, seconds: int) -> Path:
    """Writes *seconds* of 30 fps video and a tone to *path*, keyframes on each second."""
    _ffmpeg(*_PROGRAM.format(seconds=seconds).split(), path=path)
    return path


def numbered(path: Path, capture: Path, seconds: float) -> Path:
    """Writes *seconds* of *capture*, over and over, to *path*: H.264 with two keyframes a second, and AAC."""
    argv = (
        f"-stream_loop -1 -i {capture} -t {seconds} -vf fps=30,scale=320:180 -af aresample=async=1"
        " -c:v libx264 -preset ultrafast -tune zerolatency -g 15 -keyint_min 15 -sc_threshold 0"
        " -pix_fmt yuv420p -c:a aac -ar 44100 -ac 2"
    )
    _ffmpeg(*argv.split(), path=path)
    return path


def cut(source: Path, path: Path, start: float) -> Path:
    """What *source* has from its keyframe at *start* seconds on, with its own timestamps."""
    # A seek takes the keyframe before it: aim behind the one that is meant.
    seek = f"{start + 0.2:.3f}"
    _ffmpeg("-copyts", "-ss", seek, "-noaccurate_seek", "-i", str(source), "-c", "copy", path=path)
    return path


def packets(*paths: Path) -> list[tuple[str, float]]:
    """The packets of *paths* read as one file: kind and time in seconds."""
    data = b"".join(path.read_bytes() for path in paths)
    argv = [executable("ffprobe"), "-v", "error", "-show_entries", "packet=codec_type,pts_time"]
    argv += ["-of", "json", "-i", "pipe:0"]
    done = subprocess.run(argv, input=data, capture_output=True, timeout=30, check=True)
    return [(each["codec_type"], float(each["pts_time"])) for each in json.loads(done.stdout)["packets"]]


def _ffmpeg(*args: str, path: Path) -> None:
    argv = [executable("ffmpeg"), "-v", "error", "-nostdin", *args]
    argv += [
        "-avoid_negative_ts",
        "disabled",
        "-cluster_time_limit",
        "100",
        "-f",
        "matroska",
        "-y",
        str(path),
    ]
    subprocess.run(argv, timeout=30, check=True)
