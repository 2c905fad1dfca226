"""``ingestd demo`` in a directory of its own, ended by a signal."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingestd.cli.init import shipped
from tests.cli.tools import command, environment, ingestd
from tests.support.counting import continuous, decode_errors, duration, header_duration, read_video
from tests.support.processes import descendants, free_port, free_ports


def configure(directory: Path, ingest: int, control: int, key: str = "demo") -> Path:
    """The shipped configuration, on other ports."""
    for name, text in shipped().items():
        file = directory / name
        file.parent.mkdir(exist_ok=True)
        text = text.replace('# bind = "127.0.0.1:8081"', f'bind = "127.0.0.1:{ingest}"')
        text = text.replace('# bind = "127.0.0.1:8080"', f'bind = "127.0.0.1:{control}"')
        file.write_text(text.replace('key = "demo"', f'key = "{key}"'))
    return directory / "ingestd.toml"


@contextmanager
def running_demo(directory: Path, *args: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A demo that has listed two segments, and the lines that it has printed; killed at the end."""
    process = subprocess.Popen(
        command("demo", *args), cwd=directory, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "000001.ts" in line:
                break
        yield process, lines
    finally:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> str:
    """The rest of its output; it must end by itself."""
    return process.communicate(timeout=40)[0]


@pytest.mark.usefixtures("no_processes_left")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_a_signal_ends_all_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """It shows where to look, and ends with a sound recording, an ended playlist and no process left."""
    control = free_port()
    configure(tmp_path, 0, control)
    with running_demo(tmp_path) as (process, lines):
        children = descendants(process.pid)
        process.send_signal(number)
        rest = finish(process)
    said = "".join(lines)
    assert process.returncode == 0, said + rest
    assert f"watch: http://127.0.0.1:{control}/hls/demo/index.m3u8\n" in said
    assert "demo live" in said
    assert "hls running" in said
    assert children  # FFmpeg was there: the fixture sees that it is gone
    [recording] = (tmp_path / "var/recordings/demo").iterdir()
    assert f"recording: var/recordings/demo/{recording.name} (0:" in rest
    assert decode_errors(recording) == []
    assert continuous(read_video(recording))
    assert header_duration(recording) == pytest.approx(duration(recording), abs=0.1)
    assert (tmp_path / "var/hls/demo/index.m3u8").read_text().endswith("#EXT-X-ENDLIST\n")
    assert "daemon_stopped" in (tmp_path / "var/demo.log").read_text()


@pytest.mark.usefixtures("no_processes_left")
def test_a_second_ctrl_c_does_no_harm(tmp_path: Path) -> None:
    """Two signals in a row, as impatient people send them, end it as one does."""
    configure(tmp_path, 0, 0)
    with running_demo(tmp_path) as (process, lines):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        rest = finish(process)
    assert process.returncode == 0, "".join(lines) + rest
    [recording] = (tmp_path / "var/recordings/demo").iterdir()
    assert decode_errors(recording) == []


@pytest.mark.usefixtures("no_processes_left")
def test_it_ends_by_itself_after_some_seconds(tmp_path: Path) -> None:
    """--seconds ends it; a key that is not the shipped one needs not be known."""
    configure(tmp_path, 0, 0, key="another-one")
    done = ingestd("demo", "--seconds", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [recording] = (tmp_path / "var/recordings/demo").iterdir()
    assert 2.5 < duration(recording) < 3.5
    assert "another-one" not in done.stdout + (tmp_path / "var/demo.log").read_text()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """The address, its key in the configuration and what to do; exit status 1, and nothing is begun."""
    ingest, control = free_ports(2)
    config = configure(tmp_path, ingest, control)
    with socket.create_server(("127.0.0.1", control)):
        done = ingestd("demo", cwd=tmp_path)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{control}, the [control] bind of {config}: Address" in done.stderr
    assert not (tmp_path / "var").exists()


def test_a_stream_that_is_not_there(tmp_path: Path) -> None:
    """--stream must name one of the configuration's: exit status 2, with their names."""
    configure(tmp_path, 0, 0)
    done = ingestd("demo", "--stream", "cam", cwd=tmp_path)
    assert done.returncode == 2
    assert 'has no stream "cam"; choose with --stream: demo' in done.stderr
