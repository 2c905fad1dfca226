"""The daemon's start: what it reports, and how it says what keeps it from starting."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.daemon.tools import COPY, HLS, lines, request, run_to_end, small_disk
from tests.support.daemon import daemon
from tests.support.processes import descendants

PIPELINE = COPY.replace('"copy"', '"auto"') + HLS
BOUND = """
[ingest]
bind = "{ingest}"
[control]
bind = "{control}"
[streams.cam]
key = "cam-key"
pipeline = "test"
"""

pytestmark = pytest.mark.usefixtures("no_processes_left")


def test_port_0_becomes_a_free_port_that_is_told(tmp_path: Path) -> None:
    """Both listeners answer at the addresses that `daemon_ready` names, and at no other."""
    with daemon(tmp_path, PIPELINE) as running:
        assert running.ingest.rpartition(":")[2] != "0"
        assert request(running.control, "/healthz")[0] == 200
        assert request(running.ingest, "/stream/live/cam-key")[0] == 426
        (started,) = running.events("daemon_starting")
        (ready,) = running.events("daemon_ready")
    assert started["state_dir"] == str(tmp_path / "var")
    assert (ready["ingest"], ready["control"]) == ([running.ingest], [running.control])
    assert running.exit_code == 0
    assert lines(running.log)[-1]["event"] == "daemon_stopped"


def test_what_a_daemon_left_before_it_had_written_anything(tmp_path: Path) -> None:
    """A session's directory with nothing in it goes; one with bytes and without its note is kept and told."""
    journal = tmp_path / "var" / "journal" / "cam"
    left = {
        "empty": {},
        "begun": {"session.json.new": b'{"pipeli'},
        "bytes": {"source.index": b"", "session.json.new": b""},
        "unreadable": {"session.json": b"\0\0"},
        "other": {"notes.txt": b"an operator's"},
        "ended": {"session.json": b'{"ended": true}'},
    }
    for name, files in left.items():
        (journal / name).mkdir(parents=True)
        for file, content in files.items():
            (journal / name / file).write_bytes(content)
    (journal / "stray").touch()
    with daemon(tmp_path, PIPELINE) as running:
        kept = {Path(event["directory"]).name for event in running.events("journal_kept")}
        gone = [(event["directory"], event["reason"]) for event in running.events("journal_removed")]
        assert running.events("journal_not_removed") == []
    assert kept == {"bytes", "unreadable", "other"}
    assert gone == [(str(journal / name), "empty") for name in ("begun", "empty")]
    assert {path.name for path in journal.iterdir()} == {*left, "stray"} - {"empty", "begun"}
    for name in (*kept, "ended"):
        assert {path.name: path.read_bytes() for path in (journal / name).iterdir()} == left[name]


#: What only some use, and takes long to load or much memory.
NOT_LOADED = {
    "alembic", "cryptography", "httpx", "httpcore", "jwt", "psycopg",
    "ingestd.cli.demo", "ingestd.client", "ingestd.doctor", "ingestd.testcard",
}  # fmt: skip


def test_a_plain_start_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    """Neither Mux nor JWTs nor PostgreSQL, nothing to seal or to migrate, no other command."""
    with daemon(tmp_path, PIPELINE, env={"PYTHONPROFILEIMPORTTIME": "1"}) as running:
        assert request(running.control, "/v1/streams")[0] == 200
    loaded = {
        line.rpartition("|")[2].strip()
        for line in running.log.read_text().splitlines()
        if line.startswith("import time:")
    }
    assert "ingestd.daemon" in loaded
    assert loaded & NOT_LOADED == set()


def test_an_ipv6_address_is_listened_on(tmp_path: Path) -> None:
    """``[::1]:0`` works for both listeners and is told in brackets."""
    config = '[ingest]\nbind = "[::1]:0"\n[control]\nbind = "[::1]:0"\n'
    done = start_and_stop(tmp_path, config)
    assert done.returncode == 0, done.stderr
    assert '"[::1]:' in done.stderr


def start_and_stop(directory: Path, config: str) -> subprocess.CompletedProcess[str]:
    """Run until `daemon_ready` and stop; returns exit code and log."""
    (directory / "pipelines").mkdir()
    (directory / "pipelines" / "test.toml").write_text(PIPELINE)
    toml = directory / "ingestd.toml"
    toml.write_text(config)
    argv = [sys.executable, "-m", "ingestd", "run", "--config", str(toml)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if '"daemon_ready"' in line:
                process.send_signal(signal.SIGTERM)
        return subprocess.CompletedProcess(argv, process.wait(20), "", said)


@pytest.mark.parametrize("taken", ["ingest", "control"])
def test_a_taken_port_ends_the_start_with_the_listener_named(tmp_path: Path, taken: str) -> None:
    """An address in use: exit 1, and one line that names the key, the address and the cause."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        binds = {"ingest": "127.0.0.1:0", "control": "127.0.0.1:0", taken: address}
        done = run_to_end(tmp_path, PIPELINE, BOUND.format(**binds))
    assert done.returncode == 1
    assert f"{taken}.bind: cannot listen on {address}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_daemon_leaves_the_firsts_state_alone(tmp_path: Path) -> None:
    """One state directory, one daemon: the second ends with the reason, before it touches anything."""
    with daemon(tmp_path, PIPELINE) as running:
        part = running.state_dir / "recordings" / "cam" / "live.mkv.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"being written")
        done = run_to_end(tmp_path, PIPELINE)
        assert done.returncode == 1
        assert "another ingestd works in" in done.stderr
        assert part.read_bytes() == b"being written"
        part.unlink()


def test_a_wrong_ffmpeg_path_ends_the_start_with_what_to_do(tmp_path: Path) -> None:
    """``ffmpeg.path`` that is no program: exit 1, the path, and what to install."""
    done = run_to_end(tmp_path, PIPELINE, '[ffmpeg]\npath = "/nonexistent/ffmpeg"\n')
    assert done.returncode == 1
    assert "no suitable FFmpeg: /nonexistent/ffmpeg: " in done.stderr
    assert "apt install ffmpeg" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_ffmpeg_that_lacks_something_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    """A program that lists no encoders is not run with: exit 1, and what is missing."""
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho ffmpeg version 0.1 rtmps hls matroska\n")
    script.chmod(0o755)
    done = run_to_end(tmp_path, PIPELINE, f'[ffmpeg]\npath = "{script}"\n')
    assert done.returncode == 1
    assert "version 0.1" in done.stderr
    assert "the encoder libx264" in done.stderr


def test_no_ffmpeg_at_all_ends_the_start_with_what_to_install(tmp_path: Path) -> None:
    """Neither on PATH nor embedded: exit 1, and both ways to get one."""
    blocked = tmp_path / "without"
    blocked.mkdir()
    (blocked / "imageio_ffmpeg.py").write_text("raise ImportError('not here')\n")
    done = run_to_end(tmp_path, PIPELINE, env={"PATH": "", "PYTHONPATH": str(blocked)})
    assert done.returncode == 1
    assert "no suitable FFmpeg: none was found" in done.stderr
    assert 'pip install "ingestd[ffmpeg]"' in done.stderr


def test_a_state_dir_below_a_file_ends_the_start_with_the_key_named(tmp_path: Path) -> None:
    """A state directory that cannot be made: exit 1, with key, path and cause."""
    (tmp_path / "file").write_text("")
    done = run_to_end(tmp_path, PIPELINE, f'[storage]\nstate_dir = "{tmp_path}/file/var"\n')
    assert done.returncode == 1
    assert f"storage.state_dir: cannot write to {tmp_path}/file/var (Not a directory)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_dir_that_is_read_only_ends_the_start(tmp_path: Path) -> None:
    """A state directory that is there but cannot be written to is found before the first publisher."""
    with small_disk(tmp_path / "disk", "1m", "ro") as disk:
        done = run_to_end(tmp_path, PIPELINE, f'[storage]\nstate_dir = "{disk}"\n')
    assert done.returncode == 1
    assert f"storage.state_dir: cannot write to {disk} (Read-only file system)" in done.stderr


def test_a_stop_during_the_start_is_heeded(tmp_path: Path) -> None:
    """SIGTERM while FFmpeg is still being asked what it can do: exit 0 at once, nothing left behind."""
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\nexec sleep 25\n")
    script.chmod(0o755)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "test.toml").write_text(PIPELINE)
    toml = tmp_path / "ingestd.toml"
    toml.write_text(
        BOUND.format(ingest="127.0.0.1:0", control="127.0.0.1:0") + f'[ffmpeg]\npath = "{script}"\n'
    )
    with subprocess.Popen([sys.executable, "-m", "ingestd", "run", "--config", str(toml)]) as process:
        deadline = time.monotonic() + 20
        while not descendants(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(10) == 0
