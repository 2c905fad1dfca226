"""Whether there is an FFmpeg that can do all that pipelines ask for."""

from __future__ import annotations

import re
import subprocess

import trio

from ingestd.config import Config
from ingestd.doctor.finding import Finding, failed, ok, warning
from ingestd.live.capabilities import Ffmpeg, FfmpegMissing, find_ffmpeg, lacking

#: What pipelines may ask for beyond what the daemon refuses to start without.
_WANTED = (
    *(("muxer", name) for name in ("flv", "mpegts", "mp4", "matroska")),
    *(("protocol", name) for name in ("rtmp", "tls")),
    *(("decoder", name) for name in ("vp8", "vp9", "h264", "opus", "aac")),
)
_FOR_THE_TEST_CARD = (("encoder", "libvpx"), ("encoder", "libopus"))
_TESTED_FROM = (5, 1)
_INSTALL = (
    'install the distribution\'s (`apt install ffmpeg`) or the embedded one (`pip install "ingestd[ffmpeg]"`)'
)


async def examine(config: Config) -> list[Finding]:
    """One finding on the program, and one on the test card's encoders."""
    try:
        found = await find_ffmpeg(config.ffmpeg)
        lacks = await lacking(found.path, _WANTED)
        card = await lacking(found.path, _FOR_THE_TEST_CARD)
    except FfmpegMissing as error:
        return [_missing(str(error))]
    except trio.TooSlowError:
        return [failed("ffmpeg", "does not answer", f"see what ffmpeg.path or `ffmpeg` is; or {_INSTALL}")]
    except (OSError, subprocess.CalledProcessError) as error:
        return [failed("ffmpeg", f"cannot be asked what it can do: {error}", _INSTALL)]
    return [_program(found, lacks), _test_card(card)]


def _missing(text: str) -> Finding:
    detail, _, mend = text.partition(". Install ")
    return failed("ffmpeg", detail, f"install {mend}" if mend else _INSTALL)


def _program(found: Ffmpeg, lacks: list[str]) -> Finding:
    which = f"{found.version}, {found.path}"
    if lacks:
        return failed("ffmpeg", f"{which}: lacks {', '.join(lacks)}", _INSTALL)
    number = re.match(r"n?(\d+)\.(\d+)", found.version)
    if number and (int(number[1]), int(number[2])) < _TESTED_FROM:
        tested = ".".join(map(str, _TESTED_FROM))
        return warning("ffmpeg", f"{which}: older than any that is tested", f"install {tested} or newer")
    return ok("ffmpeg", f"{which}: libx264, AAC, HLS, FLV, TLS")


def _test_card(lacks: list[str]) -> Finding:
    if lacks:
        text = f"FFmpeg lacks {', '.join(lacks)}"
        return warning("test card", text, f'"ingestd demo" and the test card need them: {_INSTALL}')
    return ok("test card", "FFmpeg has libvpx and libopus")
