"""``ingestd``, ``ingestd check`` and ``ingestd init`` as a person meets them."""

from __future__ import annotations

import importlib.util
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from ingestd import __version__
from ingestd.cli import COMMANDS, main
from ingestd.config_file import hash_key, load
from ingestd.sinks import SINKS
from tests.config.tools import HLS, write

SECRET = "correct-horse_BATTERY-staple"


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], prog_name="ingestd")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_teaches(option: str) -> None:
    """The first steps, the exit statuses and every command, each with a line."""
    done = run(option)
    assert done.exit_code == 0
    assert "ingestd init      writes ingestd.toml and pipelines/ here" in done.output
    assert "Exit status: 0 good, 1 failed, 2 wrong usage or wrong configuration." in done.output
    for command, (_, text) in COMMANDS.items():
        assert re.search(rf"^  {command} +{re.escape(text)}$", done.output, re.MULTILINE)


def test_help_imports_no_command() -> None:
    """So that help is quick, and works where a command's dependency is broken."""
    code = "import sys; from ingestd.cli import main; main(['-h'], standalone_mode=False);"
    code += "print([name for name in sys.modules if name.startswith('ingestd.')], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "['ingestd.cli']\n"


def test_the_version() -> None:
    """One line."""
    assert run("--version").output == f"ingestd, version {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    """Each command's file is there, and its help says what it does."""
    module = COMMANDS[name][0].partition(":")[0]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not written yet")
    done = run(name, "-h")
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: ingestd {name}")
    assert isinstance(main.get_command(click.Context(main), name), click.Command)


def test_a_wrong_command_is_answered_with_the_nearest() -> None:
    """Status 2, as for all wrong usage."""
    done = run("chek")
    assert done.exit_code == 2
    assert 'There is no command "chek", did you mean "check"?' in done.stderr


def test_check_reports_all_problems(tmp_path: Path) -> None:
    """One line each on stderr, how many there are, and status 2."""
    path = write(tmp_path, "[ingest]\nchannel = 0\n", a=HLS + "window = 1\n")
    done = run("check", "--config", path)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"{path}: ingest.channel: expected 1 to 4096; got 0",
        f"{tmp_path}/pipelines/a.toml: sinks.hls.window: expected 3 to 10000, or 0 (all are kept); got 1",
        "2 problems in the configuration",
    ]


def test_the_configuration_is_found_through_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By $INGESTD_CONFIG, else in the working directory."""
    path = write(tmp_path, "")
    monkeypatch.setenv("INGESTD_CONFIG", str(path))
    assert run("check").exit_code == 0
    monkeypatch.setenv("INGESTD_CONFIG", str(tmp_path / "no.toml"))
    assert run("check").exit_code == 2
    monkeypatch.delenv("INGESTD_CONFIG")
    monkeypatch.chdir(tmp_path)
    assert run("check").exit_code == 0


def test_check_shows_what_would_run(tmp_path: Path) -> None:
    """The encoder and each writer, with all secrets masked; a missing key does not hide the rest."""
    pushes = (
        '[video]\ncodec = "h264"\n[[sinks]]\ntype = "file"\n' + HLS + "[[sinks]]\n"
        f'type = "mux"\nkey = "{SECRET}"\n'
        f'[[sinks]]\ntype = "rtmp"\nurl = "rtmp://user:{SECRET}@example.org/app/{SECRET}"\n'
        '[[sinks]]\ntype = "rtmp"\nurl = "rtmps://example.org/app"\nkey_file = "none"\n'
    )
    path = write(tmp_path, "", a=pushes, keep='[[sinks]]\ntype = "file"\n', copy='[video]\ncodec = "copy"\n')
    done = run("check", "--config", path)
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    commands = [shlex.split(line) for line in done.stdout.splitlines() if line.startswith("    ")]
    assert [command[-1] for command in commands] == [
        "pipe:1",
        f"{tmp_path}/var/hls/STREAM/index.m3u8",
        "rtmps://global-live.mux.com:443/app/***",
        "rtmp://user:***@example.org/app/***",
        "rtmps://example.org/app/***",
    ]
    assert "sink file         file, written by the daemon in" in done.stdout
    assert "cannot start yet: cannot read" in done.stdout
    assert "none: the sinks take the source as it is" in done.stdout
    assert "none: the source must be H.264 and AAC already" in done.stdout
    assert not (tmp_path / "var").exists()


def test_check_without_an_ffmpeg_fails(tmp_path: Path) -> None:
    """Status 1: the configuration is right, but nothing would run."""
    path = write(tmp_path, f'[ffmpeg]\npath = "{tmp_path}/no-ffmpeg"\n')
    done = run("check", "--config", path)
    assert done.exit_code == 1
    assert "no suitable FFmpeg" in done.stderr


def test_check_can_be_quiet(tmp_path: Path) -> None:
    """For scripts and units: only the status."""
    done = run("check", "--quiet", "--config", write(tmp_path, ""))
    assert (done.exit_code, done.output) == (0, "")


def test_init_writes_a_configuration_that_is_right(tmp_path: Path) -> None:
    """With a random key that is shown once, in a file that others cannot read."""
    directory = tmp_path / "new" / "place"
    done = run("init", directory)
    assert done.exit_code == 0
    [key] = re.findall(r"ws://127\.0\.0\.1:8081/stream/live/([A-Za-z0-9_-]{32})$", done.output, re.MULTILINE)
    path = directory / "ingestd.toml"
    loaded = load(path, SINKS)
    assert loaded.streams["demo"].key_sha256 == hash_key(key)
    assert set(loaded.pipelines) == {"archive", "hls", "mux", "simulcast"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"ingestd check --config {path}" in done.output
    assert run("check", "--quiet", "--config", path).exit_code == 0


def test_init_overwrites_only_when_told(tmp_path: Path) -> None:
    """One file in the way, and nothing is written; --force replaces it."""
    (tmp_path / "pipelines").mkdir()
    mine = tmp_path / "pipelines" / "hls.toml"
    mine.write_text("# mine\n")
    done = run("init", tmp_path)
    assert done.exit_code == 1
    assert done.stderr == f"{mine}: is there already; --force replaces it\nnothing was written\n"
    assert mine.read_text() == "# mine\n"
    assert not (tmp_path / "ingestd.toml").exists()
    assert run("init", "--force", tmp_path).exit_code == 0
    assert mine.read_text() != "# mine\n"
