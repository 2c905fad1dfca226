"""The systemd unit: what systemd itself says of it, and that it agrees with the daemon it runs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ingestd.config import Shutdown
from ingestd.units import parse_duration
from tests.support.packages import program

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "ingestd.service"
#: Of 10, as `systemd-analyze security` counts; an unconfined service has 9.6.
MAX_EXPOSURE = 1.5


def settings(text: str) -> dict[str, str]:
    """The unit's settings by name; of one that is given more than once, the last."""
    lines = (line for line in text.splitlines() if line and line[0] not in "#;[")
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def unit() -> dict[str, str]:
    return settings(UNIT.read_text("utf-8"))


def verify(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """What `systemd-analyze verify` says of *text*, with the program where it is here."""
    installed = Path(sys.executable).parent / "ingestd"
    file = directory / "ingestd.service"
    file.write_text(text.replace("/opt/ingestd/.venv/bin/ingestd", str(installed)), "utf-8")
    argv = [program("systemd-analyze"), "verify", "--man=no", str(file)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    result = verify(tmp_path, UNIT.read_text("utf-8"))
    assert (result.returncode, result.stderr) == (0, "")


def test_an_unknown_setting_is_seen(tmp_path: Path) -> None:
    """`systemd-analyze verify` returns 0 for it, so that only its words tell."""
    result = verify(tmp_path, UNIT.read_text("utf-8").replace("KillMode=", "KillMood="))
    assert "KillMood" in result.stderr


def test_the_daemon_is_shut_in() -> None:
    argv = [program("systemd-analyze"), "security", "--offline=yes", "--no-pager"]
    argv += [f"--threshold={MAX_EXPOSURE * 10:.0f}", str(UNIT)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_systemd_waits_longer_than_the_daemon_takes(unit: dict[str, str]) -> None:
    """All sessions have shutdown.timeout; after 5 seconds more the daemon cancels what is left."""
    assert parse_duration(unit["TimeoutStopSec"]) >= Shutdown().timeout + 5


def test_only_the_daemon_is_told_to_stop(unit: dict[str, str]) -> None:
    """An FFmpeg that is sent SIGTERM together with the daemon would cut its files short."""
    assert unit["KillMode"] == "mixed"


def test_the_production_configuration_stays_where_the_unit_lets_it_write(unit: dict[str, str]) -> None:
    production = tomllib.loads((ROOT / "config" / "production.toml").read_text("utf-8"))
    assert production["storage"]["state_dir"] == f"/var/lib/{unit['StateDirectory']}"
    assert production["pipelines"]["dir"].startswith("/etc/ingestd/")
    assert unit["ExecStart"].endswith("--config /etc/ingestd/ingestd.toml")


def test_the_unit_s_user_is_the_one_that_sysusers_makes(unit: dict[str, str]) -> None:
    lines = (ROOT / "systemd" / "ingestd.sysusers.conf").read_text("utf-8").splitlines()
    (line,) = (line for line in lines if not line.startswith("#"))
    assert line.split()[:2] == ["u", unit["User"]]
