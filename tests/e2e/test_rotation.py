"""Rotation and retention in the real daemon, against a run without them."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.e2e.test_captures import CONTROL, control_run
from tests.support.captures import capture
from tests.support.counting import assert_same_frames, decode_errors, read_video
from tests.support.daemon import daemon, publish
from tests.support.packages import program

ROTATED = """
[video]
codec = "h264"
size = "640x360"
preset = "ultrafast"
keyframe_interval = "1s"

[[sinks]]
type = "file"
name = "mkv"
path = "{date}/{session}-{part}"
rotate_every = "1s"

[[sinks]]
type = "file"
name = "mp4"
format = "mp4"
path = "{session}-{part}"
rotate_every = "1s"
keep_for = "1h"
"""


async def test_the_rotated_program_is_the_control_runs(tmp_path: Path) -> None:
    """Encoded, in MKV and in MP4, the files joined have the control run's frames; the status counts them."""
    chunks = capture("cv-vp8-250.webm").chunks()
    same = CONTROL.replace("preset", 'keyframe_interval = "1s"\npreset')
    control = read_video(await control_run(tmp_path / "control", chunks, same))
    with daemon(tmp_path / "rotated", ROTATED) as running:
        await publish(running.publish_url, chunks)
        status = await running.wait_ended()
    assert {s["name"]: (s["state"], s["last_error"]) for s in status["sinks"]} == {
        "mkv": ("stopped", None),
        "mp4": ("stopped", None),
    }
    root = running.state_dir / "recordings" / "cam"
    for sink in status["sinks"]:
        files = sorted(root.rglob(f"*.{sink['name']}"))
        assert len(files) == sink["finished_files"] > 2
        assert files[-1] == root / sink["file"]
        at = 0
        for file in files:
            assert decode_errors(file) == []
            frames = read_video(file)
            assert_same_frames(frames, control[at : at + len(frames)], align=True)
            assert frames[0][0] < 0.1
            at += len(frames)
        assert at == len(control)
    assert not list(root.rglob("*.part"))
    stated = await trio.run_process(
        [program("ffprobe"), "-v", "error", "-show_entries", "format_tags=creation_time", "-of", "csv=p=0",
         str(files[-1])],
        capture_stdout=True,
    )  # fmt: skip
    assert stated.stdout[:2] == b"20"
