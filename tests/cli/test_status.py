"""``ingestd status`` and ``ingestd streams`` against the real daemon, and without one."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import trio

from ingestd.client import ApiError, Control, DaemonUnreachable, UnknownStream, stream_status
from tests.cli.tools import command, environment, ingestd
from tests.support.captures import capture
from tests.support.daemon import Daemon, daemon, publish
from tests.support.processes import free_port

PIPELINE = '[video]\ncodec = "copy"\n[[sinks]]\ntype = "file"\n'


async def publish_slowly(running: Daemon) -> None:
    """A live stream for some seconds."""
    source = capture("cv-vp8-freeze.webm")
    await publish(
        running.publish_url, source.chunks(), at=[c.at_ms / 1000 for c in source.chunk_list], linger=9
    )


async def run_here(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """`ingestd` in a thread, so that publishing goes on."""
    return await trio.to_thread.run_sync(partial(ingestd, *args, cwd=cwd))


async def test_a_live_stream_in_every_view(tmp_path: Path) -> None:
    """Status, list and detail show it to people; --json gives scripts what the API says."""
    with daemon(tmp_path, PIPELINE) as running:
        url = f"http://{running.control}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_slowly, running)
            await running.wait_until(lambda s: s["state"] == "live" and s["sinks"])
            status = await run_here(tmp_path, "status", "--url", url)
            listed = await run_here(tmp_path, "streams", "--url", url)
            shown = await run_here(tmp_path, "streams", "cam", "--url", url)
            all_json = await run_here(tmp_path, "status", "--url", url, "--json")
            list_json = await run_here(tmp_path, "streams", "--url", url, "--json")
            one_json = await run_here(tmp_path, "streams", "cam", "--url", url, "--json")
            nursery.cancel_scope.cancel()
    assert f"at {url}: 1 stream, 1 live" in status.stdout
    for text in (status.stdout, shown.stdout):
        assert "cam  ● live" in text
        assert "vp8 1280×720 · opus 48 kHz · " in text
        assert "bit/s" in text
        assert "file  ● running" in text
    assert "1 running" in listed.stdout
    assert [stream["name"] for stream in json.loads(all_json.stdout)["streams"]] == ["cam"]
    assert json.loads(list_json.stdout)["streams"][0]["sinks"][0]["type"] == "file"
    assert json.loads(one_json.stdout)["state"] == "live"
    done = (status, listed, shown, all_json, list_json, one_json)
    assert [one.returncode for one in done] == [0] * 6


def test_idle_streams(tmp_path: Path) -> None:
    """What has not run is named; the address comes from the configuration, the name is corrected."""
    with daemon(tmp_path, PIPELINE) as running:
        config = tmp_path / "near.toml"
        config.write_text(f'[control]\nbind = "{running.control}"\n')
        status = ingestd("status", "-c", config, cwd=tmp_path)
        listed = ingestd("streams", "-c", config, cwd=tmp_path)
        wrong = ingestd("streams", "cma", "-c", config, cwd=tmp_path)
    assert status.stdout.endswith(": 1 stream, 0 live\n\nidle: cam\n")
    assert listed.stdout.splitlines()[1].split() == ["cam", "●", "idle", "test", "–", "–"]
    assert wrong.returncode == 1
    assert 'has no stream "cma", did you mean "cam"?' in wrong.stderr


def test_watching_goes_on_until_ctrl_c(tmp_path: Path) -> None:
    """--watch --json gives a line of JSON now and then; SIGINT ends it with status 0."""
    with daemon(tmp_path, PIPELINE) as running:
        args = ("status", "--watch", "--json", "--url", f"http://{running.control}")
        process = subprocess.Popen(command(*args), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2)]
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
    assert [json.loads(line)["live"] for line in lines] == [0, 0]
    assert process.returncode == 0


def test_in_a_terminal_it_goes_on(tmp_path: Path) -> None:
    """A live view, which waits for a daemon that goes away, until Ctrl-C; --once looks once there, too."""
    ours, theirs = pty.openpty()
    seen = bytearray()

    def read_until(text: bytes) -> None:
        while text not in seen:
            seen.extend(os.read(ours, 65_536))

    with ExitStack() as stack:
        stack.callback(os.close, ours)
        stack.callback(os.close, theirs)
        with daemon(tmp_path, PIPELINE) as running:
            args = ("--url", f"http://{running.control}")
            env = environment(TERM="xterm")
            once = subprocess.run(
                command("status", "--once", *args), cwd=tmp_path, env=env, stdout=theirs, timeout=60
            )
            read_until(b"idle: cam")
            assert once.returncode == 0
            seen.clear()
            process = subprocess.Popen(command("status", *args), cwd=tmp_path, env=env, stdout=theirs)
            stack.callback(process.wait)
            stack.callback(process.kill)
            read_until(b"idle: cam")
        read_until(b"waiting for it")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.parametrize("what", ["status", "streams"])
def test_no_daemon(tmp_path: Path, what: str) -> None:
    """Exit status 1, with the address and what to do."""
    done = ingestd(what, "--url", f"http://127.0.0.1:{free_port()}", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: nothing answers at http://127.0.0.1:")
    assert 'Start it with "ingestd run"' in done.stderr


def test_wrong_addresses(tmp_path: Path) -> None:
    """A URL that is none, and a port that the configuration leaves open: exit status 2."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "ingestd.toml").write_text('[control]\nbind = "127.0.0.1:0"\n')
    assert "expected a URL like" in ingestd("status", "--url", "localhost:8080", cwd=tmp_path).stderr
    done = ingestd("status", cwd=tmp_path)
    assert done.returncode == 2
    assert "[control] bind takes any free port: give --url" in done.stderr


async def test_the_api_client(tmp_path: Path) -> None:
    """Applications get the API's JSON, and an error of its own for each way to fail."""
    with daemon(tmp_path, PIPELINE) as running:
        url = f"http://{running.control}"
        assert (await stream_status(url, "cam"))["state"] == "idle"
        with pytest.raises(UnknownStream, match='has no stream "nobody"'):
            await stream_status(url, "nobody")
        async with Control(f"{url}/hls") as control:
            with pytest.raises(ApiError, match="got 404"):
                await control.streams()
    with pytest.raises(DaemonUnreachable):
        await stream_status(url, "cam")
    with pytest.raises(ValueError, match="expected a URL"):
        Control("host:80")
