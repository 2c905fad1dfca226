"""Finds an FFmpeg that can do the work: the configured one, the system's, or the embedded one."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from collections.abc import Iterable

import trio
from attrs import frozen

from ingestd.config import FfmpegConfig
from ingestd.errors import IngestdError
from ingestd.live.orphans import environment

_PATIENCE = 30.0
_VERSION = re.compile(r"ffmpeg version (\S+)")
_NEEDED = (
    ("encoder", "libx264"),
    ("encoder", "aac"),
    ("protocol", "rtmps"),
    ("muxer", "hls"),
    ("demuxer", "matroska"),
)


class FfmpegMissing(IngestdError):
    """No FFmpeg that can do the work was found; the text says what to install."""


@frozen(slots=True)
class Ffmpeg:
    """A usable binary: its *path* and *version*."""

    path: str
    version: str


async def find_ffmpeg(config: FfmpegConfig) -> Ffmpeg:
    """The first suitable FFmpeg, probed once. Raises `FfmpegMissing` with what each candidate lacks."""
    tried = []
    for path in _candidates(config):
        try:
            version, missing = await _probe(path)
        except (OSError, subprocess.CalledProcessError, trio.TooSlowError) as error:
            tried.append(f"{path}: {str(error) or 'it does not answer'}")
            continue
        if not missing:
            return Ffmpeg(path, version)
        tried.append(f"{path} (version {version}) lacks {', '.join(missing)}")
    found = "; ".join(tried) or "none was found"
    raise FfmpegMissing(
        f"no suitable FFmpeg: {found}. Install one with libx264, AAC and TLS: `apt install ffmpeg`, "
        'or the embedded one: `pip install "ingestd[ffmpeg]"`; or set ffmpeg.path in ingestd.toml'
    )


def _candidates(config: FfmpegConfig) -> list[str]:
    if config.path:
        return [config.path]
    candidates = []
    if system := shutil.which("ffmpeg"):
        candidates.append(system)
    try:
        embedded = importlib.import_module("imageio_ffmpeg")
        candidates.append(str(embedded.get_ffmpeg_exe()))
    except (ImportError, RuntimeError):
        return candidates
    return candidates


async def _probe(path: str) -> tuple[str, list[str]]:
    match = _VERSION.search(await _ask(path, "-version"))
    return (match.group(1) if match else "unknown"), await lacking(path, _NEEDED)


async def lacking(path: str, wanted: Iterable[tuple[str, str]]) -> list[str]:
    """What of *wanted*, pairs like ("encoder", "libx264"), the FFmpeg at *path* does not have, in words.

    Raises `OSError`, `subprocess.CalledProcessError` and `trio.TooSlowError` when it cannot be asked.
    """
    wanted = tuple(wanted)
    listed = {
        kind: set(re.findall(r"[\w]+", await _ask(path, f"-{kind}s")))
        for kind in dict.fromkeys(kind for kind, _ in wanted)
    }
    return [f"the {kind} {name}" for kind, name in wanted if name not in listed[kind]]


async def _ask(path: str, option: str) -> str:
    with trio.fail_after(_PATIENCE):
        result = await trio.run_process(
            [path, "-hide_banner", option] if option != "-version" else [path, option],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
        )
    return result.stdout.decode("utf-8", "replace")
