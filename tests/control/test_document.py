"""docs/api.md: the life of a stream in it is run as it stands there, and its pieces are true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ingestd.control.frontends import LegacyStream, OnAirStatus, ServiceHealth
from tests.auth.serving import TOKENS, give, listener
from tests.control.conftest import MANY
from tests.control.tools import call
from tests.daemon.tools import ENCODE, HLS, MKV
from tests.support.counting import read_video
from tests.support.daemon import daemon

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "api.md").read_text("utf-8")
(LIFE,) = re.findall(r"^## The whole life of a stream\n.*?^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("no_processes_left")
def test_the_life_of_a_stream_is_as_it_is_written(tmp_path: Path) -> None:
    """Word for word, by a shell, on a daemon that asks for tokens: every step is done."""
    token = give(tmp_path, "ops", "admin")
    work = tmp_path / "work"
    work.mkdir()
    program = tmp_path / "bin" / "ingestd"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ingestd "$@"\n')
    program.chmod(0o755)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "hls.toml").write_text(ENCODE + HLS + MKV)
    with daemon(tmp_path, HLS, config=MANY + TOKENS.partition("\n")[2]) as running:
        env = {
            **os.environ,
            "INGESTD": f"http://{running.control}",
            "TOKEN": token,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", LIFE],
            cwd=work,
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\n")[-2] == "this stream is disabled"
        assert call(running, "GET", "/v1/streams/studio", token=token).status == 404
    events = (work / "events.txt").read_text()
    kinds = re.findall(r"^event: (.*)$", events, re.MULTILINE)
    wanted = ["stream.live", "stream.updated", "stream.ended", "recording.removed", "stream.deleted"]
    assert set(wanted) <= set(kinds)
    assert (work / "studio.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    assert (work / "studio.webm").read_bytes()[:4] == b"\x1a\x45\xdf\xa3"
    (recording,) = work.glob("studio-*.mkv")
    assert len(read_video(recording)) > 20


def test_what_front_ends_get_is_named() -> None:
    """Each field of theirs is in the table."""
    section = TEXT.partition("## What front ends call")[2].partition("\n## ")[0]
    for kind in (LegacyStream, OnAirStatus, ServiceHealth):
        for name in kind.__struct_encode_fields__:
            assert f"`{name}`" in section or name in ("streamId", "since", "timestamp"), name


async def test_every_path_is_explained(tmp_path: Path) -> None:
    """What the document for machines has, this page, or one that it leads to, has, too."""
    async with listener(tmp_path) as made:
        told = (await made.ask("GET", "/v1/openapi.json")).json()
    pages = TEXT + "".join(
        (ROOT / "docs" / name).read_text("utf-8") for name in ("webhooks.md", "security.md", "mux.md")
    )
    for path in told["paths"]:
        # A part that varies may have another name there; one that goes on may be written with dots.
        form = re.sub(r"\\{\w+\\}", r"[^`]+", re.escape(path))
        tail = path.rpartition("/")[2]
        assert re.search(form, pages) or f"…/{tail}`" in pages or path.startswith("/docs"), path
