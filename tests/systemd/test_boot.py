"""The installed daemon under a systemd that really boots: a Debian container, a publisher, a stop.

Needs root and the packages debootstrap and systemd-container. The Debian tree (0.9 GB) is made once, under
``$XDG_CACHE_HOME``, and never written to again: each run lays a tmpfs over it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.packages import install_command

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
KEY = "studio-key"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,ffmpeg,ca-certificates,procps,curl"
TREE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ingestd-tests" / "bookworm"

SCRIPT = f"""\
#!/bin/bash
exec > /out/log 2>&1
set -eux
python3 -m venv /opt/ingestd/.venv
/opt/ingestd/.venv/bin/pip install --quiet --no-index --find-links /in/wheels ingestd
install -D -m 644 /in/systemd/ingestd.service /etc/systemd/system/ingestd.service
install -D -m 644 /in/systemd/ingestd.sysusers.conf /usr/lib/sysusers.d/ingestd.conf
install -D -m 644 /in/config/production.toml /etc/ingestd/ingestd.toml
sed -i '/min_free/d' /etc/ingestd/ingestd.toml
cp -r /in/pipelines /etc/ingestd/
mkdir -p -m 700 /etc/ingestd/keys
(umask 077; echo {KEY} > /etc/ingestd/keys/studio)
mkdir -p /etc/systemd/system/ingestd.service.d
printf '[Service]\\nLoadCredential=studio-key:/etc/ingestd/keys/studio\\n' \\
  > /etc/systemd/system/ingestd.service.d/keys.conf
systemd-sysusers
systemctl daemon-reload
systemctl start ingestd
timeout 20 sh -c 'until curl -sf http://127.0.0.1:8080/readyz; do sleep 0.1; done'
/opt/ingestd/.venv/bin/python /in/publish.py &
sleep 8
curl -sf http://127.0.0.1:8080/v1/streams/studio > /out/status.json
systemctl stop ingestd
wait
systemctl show ingestd -p Result,ExecMainStatus,NRestarts > /out/result
(pgrep -a ffmpeg || true) > /out/left
(pgrep -u ingestd -a || true) >> /out/left
cp -r /var/lib/ingestd/recordings /var/lib/ingestd/hls /out/
touch /out/done
"""

PUBLISH = f"""\
import trio
from pathlib import Path
from ingestd.client import index, publish_plain, recorded_chunks

async def main():
    recorded = index(Path("/in/capture.webm"))
    async def chunks():
        async for _, chunk in recorded_chunks(recorded, loop=True):
            yield chunk
    print(await publish_plain("ws://127.0.0.1:8081/stream/live/{KEY}", chunks()))

trio.run(main)
"""


def debian() -> Path:
    """A Debian tree with systemd, Python and FFmpeg; made once."""
    for name in ("debootstrap", "systemd-nspawn"):
        hint = install_command(["debootstrap", "systemd-container"])
        assert shutil.which(name, path="/usr/sbin:/usr/bin"), f"{name} is missing: {hint}"
    if not TREE.exists():
        making = TREE.with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        making.parent.mkdir(parents=True, exist_ok=True)
        argv = [
            "/usr/sbin/debootstrap",
            "--variant=minbase",
            f"--include={PACKAGES}",
            "bookworm",
            str(making),
        ]
        subprocess.run(argv, check=True, capture_output=True)
        making.rename(TREE)
    return TREE


def wheels(directory: Path) -> None:
    """ingestd and all it needs, for the tree's Python (3.11), as wheels."""
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(directory), str(ROOT)]
    subprocess.run(argv, check=True, capture_output=True)


def boot(tree: Path, given: Path, out: Path) -> str:
    """Boot the container, run ``/in/run`` in it and shut it down; returns the console's text."""
    argv = [
        "systemd-nspawn", "--directory", str(tree), "--volatile=overlay", "--boot", "--register=no",
        "--keep-unit", "--private-network", "--console=pipe", f"--bind-ro={given}:/in", f"--bind={out}:/out",
        # PID 1 in a container takes these for the kernel's command line: run it, and then exit.
        "systemd.run=/in/run",
    ]  # fmt: skip
    result = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=180
    )
    return result.stdout + result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root")
def test_a_publisher_a_stop_a_recording_and_nothing_left(tmp_path: Path) -> None:
    """Installed as docs/operations.md says; `systemctl stop` while a publisher is live."""
    given, out = tmp_path / "in", tmp_path / "out"
    out.mkdir()
    for name in ("systemd", "config", "pipelines"):
        shutil.copytree(ROOT / name, given / name)
    shutil.copy(ROOT / "tests" / "data" / "cv-vp8-250.webm", given / "capture.webm")
    (given / "publish.py").write_text(PUBLISH)
    (given / "run").write_text(SCRIPT)
    (given / "run").chmod(0o755)
    wheels(given / "wheels")

    console = boot(debian(), given, out)

    said = (out / "log").read_text() if (out / "log").exists() else console
    assert (out / "done").exists(), said
    assert (out / "left").read_text() == ""
    assert sorted((out / "result").read_text().split()) == [
        "ExecMainStatus=0",
        "NRestarts=0",
        "Result=success",
    ]
    status = json.loads((out / "status.json").read_text())
    assert {sink["name"]: sink["state"] for sink in status["sinks"]} == {"hls": "running", "file": "running"}
    (recording,) = (out / "recordings" / "studio").iterdir()
    argv = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(recording)]
    probe = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert (recording.suffix, probe.stderr) == (".mkv", "")
    assert float(probe.stdout) > 5
    assert (out / "hls" / "studio" / "index.m3u8").read_text().endswith("#EXT-X-ENDLIST\n")
