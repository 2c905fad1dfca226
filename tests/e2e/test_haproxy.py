"""``config/haproxy.cfg`` with the real HAProxy: publish, watch and the API, all through it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.control.tools import acall
from tests.e2e.test_nginx import PIPELINE, goes_through
from tests.support.daemon import Daemon, daemon
from tests.support.packages import program
from tests.support.processes import free_port, wait_listening

CFG = Path(__file__).parents[2] / "config" / "haproxy.cfg"
TRUSTED = 'trusted_proxies = ["127.0.0.1"]'


def written(folder: Path, port: int, ingest: str, control: str) -> Path:
    """The file with other ports, its log on standard output and no other user; nothing else is another."""
    text = CFG.read_text("utf-8")
    for found, ours in (
        ("bind :80", f"bind 127.0.0.1:{port}"),
        ("127.0.0.1:8081", ingest),
        ("127.0.0.1:8080", control),
        ("log /dev/log local0", "log stdout format raw local0"),
        ("    user haproxy\n    group haproxy\n", ""),
    ):
        assert found in text, found
        text = text.replace(found, ours)
    path = folder / "haproxy.cfg"
    path.write_text(text)
    return path


@contextmanager
def behind(folder: Path) -> Iterator[tuple[Daemon, str, Path]]:
    """A daemon behind HAProxy; the address at which browsers find both, and the proxy's log."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    with daemon(
        folder, PIPELINE.format(container="ts", window="0s"), ingest=f'bind = "127.0.0.1:0"\n{TRUSTED}',
        control=f'public_url = "http://{address}"\n{TRUSTED}\n',
    ) as running:  # fmt: skip
        argv = [program("haproxy"), "-f", str(written(folder, port, running.ingest, running.control))]
        tested = subprocess.run([*argv, "-c"], capture_output=True, text=True, check=False)
        assert tested.returncode == 0, tested.stderr
        assert "WARNING" not in tested.stderr
        log = folder / "haproxy.log"
        with log.open("wb") as out:
            server = subprocess.Popen([*argv, "-db"], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            wait_listening(port)
            yield running, address, log
        finally:
            server.terminate()
            server.wait(10)


@pytest.mark.full
async def test_all_of_it_goes_through_haproxy(tmp_path: Path) -> None:
    """At the addresses that /v1/playback tells; keys and tokens are in no log."""
    with behind(tmp_path) as (running, address, log):
        await goes_through(tmp_path, running, address)
        await acall(address, "GET", "/v1/playback/cam?token=secret-token")
        playlist = await acall(address, "GET", "/hls/cam/index.m3u8")
        assert playlist.status == 200
        told = log.read_text()
    assert '"GET /v1/playback/cam" 200' in told
    assert "cam-key" not in told
    assert "secret-token" not in told
