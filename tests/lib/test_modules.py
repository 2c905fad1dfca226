"""The browser library without a browser: its logic in Node, its types by tsc, its files in the wheel."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.packages import program

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "ingestd" / "pages" / "lib"
MAX_LINES = 400


@pytest.mark.parametrize("file", [f"{each}.test.mjs" for each in ("pure", "native", "publisher", "uplink")])
def test_logic(file: str) -> None:
    """What the file says, in Node."""
    argv = [program("node"), "--test", "--test-reporter=spec", str(Path(__file__).with_name(file))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def type_errors(project: Path) -> str:
    done = subprocess.run([program("tsc"), "--project", str(project)], capture_output=True, text=True)
    assert bool(done.stdout) == bool(done.returncode), done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the library, checked as `make types` does."""
    shutil.copytree(LIBRARY, tmp_path / "ingestd" / "pages" / "lib")
    shutil.copy(ROOT / "tsconfig.json", tmp_path)
    return tmp_path


@pytest.mark.full
def test_a_type_error_is_found(project: Path) -> None:
    """A wrong argument, a field that is not there, and one that is not typed; and nothing else."""
    page = project / "ingestd" / "pages" / "lib" / "page.js"
    page.write_text(
        'import { Publisher } from "./ingestd.js";\n'
        "const publisher = new Publisher({ url: 1, stream: new MediaStream() });\n"
        'publisher.on("statistics", ({ lag }) => console.log(lag));\n'
        "export const twice = (value) => 2 * value;\n"
    )
    found = type_errors(project).splitlines()
    assert len(found) == 3, found
    assert all(f"page.js({line}," in error for line, error in zip((2, 3, 4), found, strict=True)), found


def test_modules_are_small_and_come_from_here() -> None:
    """No module is long, and none loads anything from another place."""
    for module in LIBRARY.glob("*.js"):
        text = module.read_text()
        assert len(text.splitlines()) <= MAX_LINES, module.name
        assert "http://" not in text.replace("http://localhost", ""), module.name
        for line in text.splitlines():
            if line.startswith(("import ", "export {")) and " from " in line:
                target = line.rsplit('"', 2)[1]
                assert target.startswith("./"), line
                assert (LIBRARY / target).is_file(), line


def test_the_wheel_has_the_library(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = json.loads(archive.read("ingestd/pages/lib/package.json"))
    assert {f"ingestd/pages/lib/{file.name}" for file in LIBRARY.iterdir()} <= names
    assert about["type"] == "module"
