"""``ingestd doctor``: every line provoked, and nothing disturbed by looking."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from ingestd.cli import main
from ingestd.config import Config
from ingestd.config_file import load
from ingestd.doctor import host, state, targets
from ingestd.doctor.finding import Finding, Verdict
from ingestd.live import capabilities
from ingestd.sinks import SINKS
from tests.config.tools import HLS, load_text, write
from tests.daemon.tools import small_disk
from tests.support.daemon import daemon
from tests.support.processes import free_port

SECRET = "correct-horse_BATTERY-staple"
PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
#: Any free ports; and a disk that need not be large.
ANY = '[ingest]\nbind = "127.0.0.1:0"\n[control]\nbind = "127.0.0.1:0"\n'
SMALL = '[journal]\nmin_free = "1MiB"\n'
CAM = '[streams.cam]\nkey = "cam-key"\npipeline = "hls"\n'

_ASK = capabilities._ask
_ANSWERS: dict[tuple[str, str], str] = {}


@pytest.fixture(autouse=True)
def timedatectl(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that cannot tell: whether the clock of the machine that runs the tests is kept is not the point."""
    program = script(tmp_path_factory.mktemp("path") / "timedatectl", "exit 1")
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


@pytest.fixture(autouse=True)
def asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No FFmpeg is asked the same question twice by these tests: half a second each time."""

    async def ask(path: str, option: str) -> str:
        if (path, option) not in _ANSWERS:
            _ANSWERS[path, option] = await _ASK(path, option)
        return _ANSWERS[path, option]

    monkeypatch.setattr(capabilities, "_ask", ask)


def run(*args: str | Path) -> Result:
    done = CliRunner().invoke(main, ["doctor", *map(str, args)], prog_name="ingestd")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done


def findings(path: Path, *options: str, status: int) -> dict[str, dict[str, str]]:
    """The findings by check of a doctor that exits with *status*."""
    done = run("--json", "-c", path, *options)
    assert done.exit_code == status, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["ok"] is (status == 0)
    for finding in report["findings"]:
        assert bool(finding["mend"]) is (finding["verdict"] != "ok")
    return {finding["check"]: finding for finding in report["findings"]}


def failure(path: Path, check: str, *options: str) -> str:
    """The detail of *check*, which alone has failed."""
    found = findings(path, *options, status=1)
    assert [name for name, finding in found.items() if finding["verdict"] == "failed"] == [check]
    return found[check]["detail"]


def caution(path: Path, check: str) -> str:
    """The detail of *check*, which is a warning, and no failure."""
    found = findings(path, status=0)
    assert found[check]["verdict"] == "warning"
    return found[check]["detail"]


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_all_is_well(tmp_path: Path) -> None:
    """A line a check, in the order of mending, and nothing is left behind."""
    path = write(tmp_path, ANY + SMALL + CAM)
    done = run("-c", path)
    assert done.exit_code == 0, done.output
    marks = re.findall(r"^(.)  (\w+(?: \w+)?)  ", done.output, re.MULTILINE)
    assert [name for _, name in marks] == [
        "configuration",
        "ffmpeg",
        "test card",
        "state",
        "disk",
        "ingest port",
        "control port",
        "clock",
        "open files",
    ]
    assert "✗" not in done.output
    assert not (tmp_path / "var").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ingestd.toml", "pipelines"]


def test_a_finding_says_how_to_mend_it(tmp_path: Path) -> None:
    path = write(tmp_path, ANY + SMALL + '[ffmpeg]\npath = "/nonexistent/ffmpeg"\n')
    done = run("-c", path)
    assert done.exit_code == 1
    assert re.search(r"^✗  ffmpeg +no suitable FFmpeg: /nonexistent/ffmpeg", done.output, re.MULTILINE)
    assert re.search(r"^ +→ install one with libx264", done.output, re.MULTILINE)


def test_a_wrong_configuration_is_all_that_is_said(tmp_path: Path) -> None:
    """Exit status 2, and a line for each of its problems."""
    path = write(tmp_path, "[ingest]\nchannel = 0\n[log]\nkeep = 3\n")
    done = run("-c", path)
    assert done.exit_code == 2
    assert done.output.count("✗") == 2
    done = run("-c", path, "--json")
    assert done.exit_code == 2
    details = [finding["detail"] for finding in json.loads(done.stdout)["findings"]]
    assert details == [
        f"{path}: ingest.channel: expected 1 to 4096; got 0",
        f"{path}: log.keep: expected 10 to 10000, or 0 (none); got 3",
    ]
    assert run("-c", tmp_path / "none.toml").exit_code == 2


# FFmpeg


def with_ffmpeg(directory: Path, text: str) -> Path:
    """A configuration whose FFmpeg is a script."""
    exe = script(directory / "ffmpeg", text)
    return write(directory, f'{ANY}{SMALL}[ffmpeg]\npath = "{exe}"\n')


def test_an_ffmpeg_without_what_the_daemon_needs(tmp_path: Path, ffmpeg: str) -> None:
    path = with_ffmpeg(tmp_path, f'{ffmpeg} "$@" | grep -v libx264')
    assert "lacks the encoder libx264" in failure(path, "ffmpeg")


def test_an_ffmpeg_without_what_pipelines_may_want(tmp_path: Path, ffmpeg: str) -> None:
    path = with_ffmpeg(tmp_path, f"""{ffmpeg} "$@" | grep -v '^ *[DE]* flv '""")
    assert "lacks the muxer flv" in failure(path, "ffmpeg")


def test_an_ffmpeg_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_ffmpeg(tmp_path, "exec sleep 60")
    monkeypatch.setattr(trio, "fail_after", lambda _: trio.fail_at(trio.current_time() + 0.2))
    assert failure(path, "ffmpeg").endswith("ffmpeg: it does not answer")


def test_an_ffmpeg_that_cannot_make_a_test_card(tmp_path: Path, ffmpeg: str) -> None:
    """Only a warning: the daemon needs neither libvpx nor libopus."""
    path = with_ffmpeg(tmp_path, f'{ffmpeg} "$@" | grep -v -e libvpx -e libopus')
    assert caution(path, "test card") == "FFmpeg lacks the encoder libvpx, the encoder libopus"


def test_an_old_ffmpeg(tmp_path: Path, ffmpeg: str) -> None:
    path = with_ffmpeg(tmp_path, f"""{ffmpeg} "$@" | sed 's/^ffmpeg version [^ ]*/ffmpeg version 4.4.2/'""")
    assert caution(path, "ffmpeg").startswith("4.4.2, ")


# The state directory


def at(directory: Path, state_dir: Path, journal: str = SMALL) -> Path:
    return write(directory, f'{ANY}{journal}[storage]\nstate_dir = "{state_dir}"\n')


def test_a_state_dir_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = at(tmp_path, tmp_path / "file" / "var")
    assert "var: cannot be written to: Not a directory" in failure(path, "state")


def test_a_state_dir_that_is_read_only(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m", "ro") as disk:
        assert "cannot be written to: Read-only file system" in failure(at(tmp_path, disk), "state")


def test_a_state_dir_that_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        assert "cannot be written to: No space left on device" in failure(at(tmp_path, disk), "state")
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize(
    ("policy", "means"), [("end", "every session ends"), ("continue", "nothing is journaled")]
)
def test_a_disk_with_less_than_must_stay_free(tmp_path: Path, policy: str, means: str) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        path = at(tmp_path, disk, f'[journal]\non_full = "{policy}"\n')
        detail = failure(path, "disk")
    assert detail.startswith("8.0 MiB free: less than journal.min_free (256MiB)")
    assert means in detail


def test_a_disk_with_little_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64m") as disk:
        assert caution(at(tmp_path, disk), "disk").startswith("64.0 MiB free")


def test_a_file_system_without_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ramfs, FAT or NFS before 4.2: a warning."""
    monkeypatch.setattr(state, "punch_hole", lambda *_: False)
    assert "cannot punch holes" in caution(write(tmp_path, ANY + SMALL), "journal")


# Ports


def bound(directory: Path, ingest: str, control: str) -> Path:
    text = f'[ingest]\nbind = "{ingest}"\n[control]\nbind = "{control}"\nallow_unauthenticated = true\n'
    return write(directory, text + SMALL)


@pytest.mark.parametrize("taken", ["ingest", "control"])
def test_a_port_that_another_program_has(tmp_path: Path, taken: str) -> None:
    """Also where that program speaks HTTP, but is no ingestd."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        Thread(target=server.serve_forever).start()
        try:
            address = f"127.0.0.1:{server.server_port}"
            path = bound(tmp_path, **{"ingest": "127.0.0.1:0", "control": "127.0.0.1:0", taken: address})
            detail = failure(path, f"{taken} port")
        finally:
            server.shutdown()
    assert detail == f"cannot listen on {address}: Address already in use"


@pytest.mark.parametrize("host", ["192.0.2.7", "nowhere.invalid"])
def test_an_address_of_another_machine(tmp_path: Path, host: str) -> None:
    path = bound(tmp_path, f"{host}:8081", "127.0.0.1:0")
    assert failure(path, "ingest port").startswith(f"cannot listen on {host}:8081: ")


def test_a_daemon_that_runs_is_no_failure(tmp_path: Path) -> None:
    """Its ports are its own, and it is not disturbed."""
    with daemon(tmp_path / "daemon", HLS) as running:
        found = findings(bound(tmp_path, running.ingest, running.control), status=0)
        events = [event["event"] for event in running.events()]
    for name, address in (("ingest", running.ingest), ("control", running.control)):
        detail = found[f"{name} port"]["detail"]
        assert re.fullmatch(rf"{address} is in use: ingestd \S+ runs, with 0 live streams", detail)
    assert set(events[events.index("daemon_ready") + 1 :]) <= {"registry_ready"}


# The machine


def test_a_clock_that_has_no_battery() -> None:
    assert host.clock(datetime(1970, 1, 1, tzinfo=UTC)).verdict is Verdict.FAILED
    assert host.clock(datetime(2024, 1, 1, tzinfo=UTC)).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("does", "verdicts"),
    [
        ("echo no", [Verdict.WARNING]),
        ("echo yes", [Verdict.OK]),
        ("echo System has not been booted with systemd >&2; exit 1", []),
        ("exec sleep 60", []),
    ],
)
async def test_a_clock_that_is_not_kept(
    timedatectl: Path, monkeypatch: pytest.MonkeyPatch, does: str, verdicts: list[Verdict]
) -> None:
    """What timedatectl says; nothing where it cannot tell."""
    script(timedatectl, does)
    if "sleep" in does:
        monkeypatch.setattr(host, "_TIMEDATECTL_TIMEOUT", 0.2)
    assert [finding.verdict for finding in await host.synchronisation()] == verdicts


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(330, Verdict.FAILED), (400, Verdict.WARNING), (1163, Verdict.WARNING), (1164, Verdict.OK)],
)
def test_a_limit_of_open_files(tmp_path: Path, limit: int, verdict: Verdict) -> None:
    """Against what the largest pipeline needs for as many streams, and viewers, as may be."""
    config = load_text(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        finding = host.descriptors(config)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert finding.verdict is verdict
    assert str(limit) in finding.detail
    assert ("raise it to 1164" in finding.mend) is (verdict is not Verdict.OK)


# Targets


def pushing(directory: Path, *hosts: str) -> Path:
    """A stream that pushes to *hosts*, and a pipeline that nobody uses."""
    sink = '[[sinks]]\ntype = "rtmp"\nname = "push-{}"\nurl = "rtmp://user:{}@{}/app/{}"\n'
    text = "".join(sink.format(number, SECRET, host, SECRET) for number, host in enumerate(hosts))
    other = sink.format(0, SECRET, "192.0.2.1", SECRET)
    return write(directory, ANY + SMALL + CAM, hls=text, unused=other)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


def test_targets_are_only_contacted_when_asked(tmp_path: Path, server: socket.socket) -> None:
    """Without --targets no connection is made; with it one, over which nothing comes. No secret is shown."""
    address = "{}:{}".format(*server.getsockname())
    path = pushing(tmp_path, address)
    found = findings(path, status=0)
    assert found["targets"]["detail"] == f"{address}: not tried (--targets does)"
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.accept()
    done = run("-c", path, "--targets")
    assert done.exit_code == 0, done.output
    assert f"{address} takes connections" in done.output
    assert SECRET not in done.output
    connection, _ = server.accept()
    with connection:
        assert connection.recv(100) == b""


def test_without_pushes_there_are_no_targets(tmp_path: Path) -> None:
    path = write(tmp_path, ANY + SMALL + CAM)
    assert not {"target", "targets"} & findings(path, "--targets", status=0).keys()


def test_a_target_that_refuses(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    detail = failure(pushing(tmp_path, address), "target", "--targets")
    assert detail == f"{address} refuses connections: Connection refused"


async def reached(config: Config) -> Finding:
    (finding,) = await targets.examine(config, contact=True)
    return finding


class Resolver(trio.abc.HostnameResolver):
    """Knows nobody, after *seconds*."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
        await trio.sleep(self.seconds)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *_: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "live.example.org cannot be resolved: Name or service not known"),
        (60, "not resolved within 0.2 s"),
    ],
)
async def test_a_target_that_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, expected: str
) -> None:
    monkeypatch.setattr(targets, "TIMEOUT", 0.2)
    trio.socket.set_custom_hostname_resolver(Resolver(seconds))
    finding = await reached(load(pushing(tmp_path, "live.example.org"), SINKS))
    assert finding.verdict is Verdict.FAILED
    assert expected in finding.detail


async def test_a_target_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a firewall that drops what comes: here a full queue of connections."""
    monkeypatch.setattr(targets, "TIMEOUT", 0.2)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        finding = await reached(load(pushing(tmp_path, f"127.0.0.1:{full.getsockname()[1]}"), SINKS))
    assert finding.verdict is Verdict.FAILED
    assert finding.detail.endswith("did not answer within 0.2 s")


def test_every_check_is_documented() -> None:
    """Each name that a finding can have stands in the page's table."""
    rows = "\n".join(re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.MULTILINE))
    sources = "".join(p.read_text() for p in Path(host.__file__).parent.glob("*.py"))
    names = set(re.findall(r'(?:ok|warning|failed)\(\s*"([\w ]+)"', sources))
    assert {"ffmpeg", "state", "clock"} < names
    assert {name for name in names - {"targets"} if f"`{name}`" not in rows} == set()
