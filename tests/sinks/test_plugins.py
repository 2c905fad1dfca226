"""Sinks by others: found, refused with the package's name, isolated; and the example package at work."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingestd.cli import main
from ingestd.config_file import load
from ingestd.errors import AttemptFailed, ConfigError, FatalFailure
from ingestd.sinks import SINKS
from ingestd.sinks.plugins import ask, sink_types
from tests.config.tools import HLS, write
from tests.support.captures import capture
from tests.support.counting import read_video
from tests.support.daemon import daemon, publish

EXAMPLE = Path(__file__).parents[2] / "examples" / "ingestd-sink-udp"
GOOD = """
from typing import ClassVar
from attrs import field, frozen
from ingestd.sinks.base import Output, Sink

@frozen(slots=True, kw_only=True)
class Theirs(Sink):
    type: ClassVar[str] = "theirs"
    level: int = 1

    def output(self, place, tracks):
        return Output(args=("-f", "null", "-"), protocols=("file",))
"""
DECORATED = '@frozen(slots=True, kw_only=True)\nclass Theirs(Sink):\n    type: ClassVar[str] = "theirs"\n'


def package(
    directory: Path, source: str, *, name: str = "acme-sinks", type_: str = "theirs", target: str = "Theirs"
) -> None:
    """An installed distribution *name*, as pip would leave it."""
    module = name.replace("-", "_") + "_" + directory.parent.name.replace("-", "_")
    (directory / f"{module}.py").write_text(source)
    info = directory / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ingestd.sinks]\n{type_} = {module}:{target}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the path; what is imported from it is forgotten again."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    before = set(sys.modules)
    yield directory
    for name in set(sys.modules) - before:
        if name.startswith(("acme", "other")):
            del sys.modules[name]


def test_without_packages_there_are_ours() -> None:
    """Nothing is installed here, so nothing is found and nothing is wrong."""
    assert sink_types() == (SINKS, [])


def test_a_package_adds_a_sink_type(site: Path, tmp_path: Path) -> None:
    """Its type can be used in a pipeline, with its keys checked as ours are."""
    package(site, GOOD)
    types, wrong = sink_types()
    assert wrong == []
    assert set(types) == {*SINKS, "theirs"}
    path = write(tmp_path, one='[[sinks]]\ntype = "theirs"\nlevel = 2\n')
    (sink,) = load(path, types, wrong).pipelines["one"].sinks
    assert (sink.name, sink.level) == ("theirs", 2)
    with pytest.raises(ConfigError, match=r'sinks\.theirs\.levle: unknown key, did you mean "level"\?'):
        load(write(tmp_path, one='[[sinks]]\ntype = "theirs"\nlevle = 2\n'), types)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            "import nothing_of_this_name",
            "cannot be loaded: ModuleNotFoundError: No module named 'nothing_of_",
        ),
        ("def f(:", "cannot be loaded: SyntaxError"),
        (
            "1 / 0",
            "cannot be loaded: ZeroDivisionError: division by zero; update the package or uninstall it",
        ),
        ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3"),
        ("", "cannot be loaded: AttributeError"),
        ("Theirs = 3", "expected a subclass of ingestd.sinks.base.Sink; see docs/sinks.md"),
        (GOOD.replace("(Sink)", ""), "expected a subclass of"),
        (GOOD.replace("@frozen(slots=True, kw_only=True)", ""), "expected the class to be decorated"),
        (GOOD.replace('"theirs"', '"mine"'), 'expected the class to say type = "theirs"'),
        (GOOD.partition("    def")[0], "expected the class to have a method output(place, tracks)"),
        (GOOD.replace("level: int", 'level: "Elsewhere"'), "the types of its fields cannot be resolved"),
    ],
)
def test_a_broken_package_is_named(site: Path, tmp_path: Path, source: str, problem: str) -> None:
    """One line with package, type and cause; with the pipelines' own mistakes, and never a traceback."""
    package(site, source)
    types, (line,) = sink_types()
    assert types == SINKS
    assert line.startswith("package acme-sinks: sink type theirs (acme_sinks_")
    assert problem in line
    path = write(tmp_path, hls=HLS, bad='[[sinks]]\ntype = "hsl"\n')
    result = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert result.exit_code == 2
    assert line in result.stderr
    assert 'did you mean "hls"' in result.stderr
    assert "2 problems" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("name", sorted(SINKS))
def test_ours_cannot_be_replaced(site: Path, name: str) -> None:
    """A type that ingestd has is refused, and stays ours."""
    package(site, GOOD.replace('"theirs"', f'"{name}"'), type_=name)
    types, (line,) = sink_types()
    assert types == SINKS
    assert "ingestd has this type already; uninstall one of them" in line


def test_two_packages_cannot_have_one_type(site: Path) -> None:
    """The second, by name, is refused with the first's name."""
    package(site, GOOD)
    package(site, GOOD, name="other-sinks")
    types, (line,) = sink_types()
    assert types["theirs"].__module__.startswith("acme")
    assert line.startswith("package other-sinks: ")
    assert "acme-sinks has this type already" in line


@pytest.mark.parametrize(
    "defect",
    [
        "    def problems(self):\n        raise KeyError('secret')\n",
        "    def problems(self):\n        return [3]\n",
        "    @property\n    def claim(self):\n        return {}[3]\n",
        "    other: int = field(default=3, validator=lambda *_: 1 / 0)\n",
    ],
)
def test_a_defect_in_a_check_is_a_problem_of_that_sink(site: Path, tmp_path: Path, defect: str) -> None:
    """It stands at the sink's key with class and exception, and repeats no value."""
    package(site, GOOD + defect if "def" in defect else GOOD.replace("    level", defect + "    level"))
    types, wrong = sink_types()
    assert wrong == []
    path = write(tmp_path, one='[[sinks]]\ntype = "theirs"\n' + ("other = 4\n" if "other" in defect else ""))
    with pytest.raises(ConfigError) as caught:
        load(path, types)
    assert "sinks.theirs: a defect in sink type theirs (acme_sinks_" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_defect_in_an_answer_is_final_and_named() -> None:
    """What the contract allows passes; anything else gives up, with the class at fault."""
    sink = SINKS["hls"]()

    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(AttemptFailed):
        ask(sink, lambda: fail(AttemptFailed("later")))
    with pytest.raises(FatalFailure, match=r"a defect in sink type hls \(ingestd.sinks.hls\): KeyError: 'x'"):
        ask(sink, lambda: fail(KeyError("x")))


PIPELINE = """
[video]
codec = "h264"
size = "320x240"
preset = "ultrafast"
[[sinks]]
type = "file"
[[sinks]]
type = "{type}"
"""


@pytest.mark.parametrize("method", ["output", "playlist", "patience"])
async def test_a_defect_while_it_runs_fails_that_sink_only(site: Path, tmp_path: Path, method: str) -> None:
    """The sink has failed with the cause; the recording is whole, and the session ended in order."""
    broken = f"    def {method}(self, *_):\n        return [][0]\n"
    package(site, GOOD + ("    @property\n" if method == "patience" else "") + broken)
    with daemon(tmp_path, PIPELINE.format(type="theirs"), env={"PYTHONPATH": _path(site)}) as running:
        await publish(running.publish_url, capture("cv-vp8-250.webm").chunks())
        status = await running.wait_ended()
    assert status["state"] == "ended"
    assert {s["name"]: s["state"] for s in status["sinks"]} == {"file": "stopped", "theirs": "failed"}
    assert "a defect in sink type theirs" in status["sinks"][1]["last_error"]
    assert read_video(running.recordings[0])


def _path(site: Path) -> str:
    return f"{site}:{Path(__file__).parents[2]}"


@contextmanager
def receiver() -> Iterator[tuple[int, bytearray]]:
    """A UDP socket on loopback: its port, and all that has come."""
    data = bytearray()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
        sock.bind(("127.0.0.1", 0))

        def receive() -> None:
            while packet := sock.recv(65536):
                data.extend(packet)

        thread = threading.Thread(target=receive)
        thread.start()
        try:
            yield sock.getsockname()[1], data
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
                waker.sendto(b"", sock.getsockname())
            thread.join()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, installed by pip into a directory of its own."""
    target = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index",
         "--no-deps", "--no-build-isolation", "--target", str(target), str(EXAMPLE)],
        check=True,
    )  # fmt: skip
    return target


async def test_the_example_package_sends_a_capture(installed: Path, tmp_path: Path) -> None:
    """Installed with pip, it sends what the recording shows, as MPEG-TS over UDP."""
    recorded = capture("cv-vp8-250.webm")
    with receiver() as (port, data):
        pipeline = PIPELINE.format(type="udp") + f'address = "127.0.0.1:{port}"\n'
        with daemon(tmp_path, pipeline, env={"PYTHONPATH": _path(installed)}) as running:
            await publish(running.publish_url, recorded.chunks(), at=recorded.times())
            status = await running.wait_ended()
    assert [(s["type"], s["state"], s["last_error"]) for s in status["sinks"]] == [
        ("file", "stopped", None),
        ("udp", "stopped", None),
    ]
    assert len(data) % 188 == 0
    received = tmp_path / "received.ts"
    received.write_bytes(data)
    control = [number for _, number in read_video(running.recordings[0])]
    got = [number for _, number in read_video(received)]
    assert len(got) > 10
    assert got == control[-len(got) :]


def test_check_shows_the_example_s_plan(installed: Path, tmp_path: Path) -> None:
    """`ingestd check` prints the FFmpeg command of a sink by others as of ours."""
    path = write(tmp_path, one='[[sinks]]\ntype = "udp"\naddress = "239.1.1.1:5004"\nttl = 3\n')
    done = subprocess.run(
        [sys.executable, "-m", "ingestd", "check", "--config", str(path)],
        env={"PYTHONPATH": _path(installed), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "sink udp" in done.stdout
    assert "-protocol_whitelist udp -f mpegts" in done.stdout
    assert "udp://239.1.1.1:5004?pkt_size=1316&ttl=3" in done.stdout


def test_the_guide_shows_the_example_as_it_is() -> None:
    """The class in docs/sinks.md is the example's, line for line."""
    guide = (EXAMPLE.parents[1] / "docs" / "sinks.md").read_text("utf-8")
    shown = guide.partition("```python\n")[2].partition("```")[0]
    source = (EXAMPLE / "ingestd_sink_udp" / "__init__.py").read_text("utf-8")
    lines = {line.partition("  # noqa")[0] for line in source.splitlines()}
    assert [line for line in shown.splitlines() if line and line not in lines] == []
