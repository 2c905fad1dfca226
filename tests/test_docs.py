"""What the documents name exists: files, links, keys, close codes, log events, commands, FFmpeg options."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints, is_typeddict
from xml.etree import ElementTree

import attrs
import pytest

from ingestd.cli import COMMANDS
from ingestd.config import Audio, Config, Video
from ingestd.config_file import _SECTIONS as SECTIONS
from ingestd.live.shapes import StreamStatus
from ingestd.sinks import SINKS

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
DOCUMENTS = [ROOT / name for name in TOP] + sorted((ROOT / "docs").rglob("*.md"))
FOLDERS = ("ingestd", "docs", "tests", "systemd", "config", "scripts", "pipelines", "examples")

SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLOSE_CODE = re.compile(r"\b4[45]\d\d\b")

every_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def prose(path: Path) -> str:
    """The text without its code blocks."""
    return FENCE.sub("", path.read_text("utf-8"))


def spans(text: str) -> Iterator[str]:
    yield from SPAN.findall(text)


def anchors(path: Path) -> set[str]:
    """The fragments that *path*'s headings have on the usual hosts."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(path: Path, text: str) -> list[str]:
    dead = []
    for link in LINK.findall(text):
        if link.startswith(("https:", "http:")):
            continue
        file, _, fragment = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.is_file() or (fragment and fragment not in anchors(target)):
            dead.append(link)
    return dead


def missing_files(text: str) -> list[str]:
    """Paths in backticks that begin with one of our folders, and are not there."""
    paths = [span.rstrip("/") for span in spans(text) if span.split("/")[0] in FOLDERS and "/" in span]
    return [path for path in paths if "<" not in path and "*" not in path and not (ROOT / path).exists()]


def unknown_keys(text: str) -> list[str]:
    """``section.key`` in backticks, where the section is one and the key is none of its."""
    kinds = {**SECTIONS, "video": Video, "audio": Audio}
    known = {f"{name}.{field.name}" for name, kind in kinds.items() for field in attrs.fields(kind)}
    named = (span.partition(" ")[0] for span in spans(text))
    dotted = [span for span in named if re.fullmatch(rf"({'|'.join(kinds)})\.[a-z_]+", span)]
    return [span for span in dotted if span not in known and not span.endswith((".toml", ".py"))]


def numbers_in_code() -> set[str]:
    """Every integer literal of the package, as text."""
    found = set()
    for path in (ROOT / "ingestd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, int):
                found.add(str(node.value))
    return found


def events_in_code() -> set[str]:
    """The names of all log events; of one that a variable holds, what is assigned to it."""
    found: set[str] = set()
    for path in (ROOT / "ingestd").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        assigned: dict[str, list[str]] = {}
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=[ast.Name(id=variable)], value=ast.Constant(value=str(text))):
                    assigned.setdefault(variable, []).append(text)
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="log"),
                        attr="debug" | "info" | "warning" | "error" | "critical" | "exception",
                    ),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    found.add(name)
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log")), args=[ast.Name(id=variable), *_]):
                    found.update(assigned[variable])
    return found


def keys_in_status(shape: object = StreamStatus) -> set[str]:
    """Each key that the API's stream has, at any depth, as its shape has it."""
    found: set[str] = set()
    if is_typeddict(shape):
        for name, kind in get_type_hints(shape).items():
            found |= {name} | keys_in_status(kind)
    for inner in get_args(shape):
        found |= keys_in_status(inner)
    return found


def keys_of(value: object) -> set[str]:
    match value:
        case dict():
            return set(value) | {key for inner in value.values() for key in keys_of(inner)}
        case list():
            return {key for inner in value for key in keys_of(inner)}
        case _:
            return set()


@every_document
def test_links_lead_somewhere(path: Path) -> None:
    assert dead_links(path, prose(path)) == []


@every_document
def test_files_that_are_named_exist(path: Path) -> None:
    assert missing_files(prose(path)) == []


@every_document
def test_configuration_keys_that_are_named_exist(path: Path) -> None:
    assert unknown_keys(prose(path)) == []


@every_document
def test_close_codes_that_are_named_exist(path: Path) -> None:
    assert set(CLOSE_CODE.findall(prose(path))) <= numbers_in_code()


@every_document
def test_commands_that_are_named_exist(path: Path) -> None:
    """`ingestd COMMAND` and `make TARGET`, in the text and in shell blocks."""
    text = path.read_text("utf-8")
    blocks = "\n".join(body for language, body in FENCE.findall(text) if language == "sh")
    shown = "\n".join([*spans(FENCE.sub("", text)), blocks])
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", shown, re.MULTILINE)) <= targets
    assert set(re.findall(r"^ingestd ([a-z]+)", shown, re.MULTILINE)) <= set(COMMANDS)


@every_document
def test_toml_and_json_blocks_parse(path: Path) -> None:
    for language, body in FENCE.findall(path.read_text("utf-8")):
        if language == "toml":
            tomllib.loads(body)
        elif language == "json":
            json.loads(body)


def test_every_log_event_is_documented_and_there() -> None:
    """docs/operations.md has them all, and no other."""
    text = (ROOT / "docs" / "operations.md").read_text("utf-8").partition("## Log events")[2]
    cells = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    assert {name for cell in cells for name in spans(cell)} == events_in_code()


def test_the_api_s_example_has_every_field() -> None:
    """Later versions add fields: here first."""
    blocks = FENCE.findall((ROOT / "docs" / "api.md").read_text("utf-8"))
    values = [json.loads(body) for language, body in blocks if language == "json"]
    (example,) = (value for value in values if "sinks" in value)
    text = prose(ROOT / "docs" / "api.md")
    described = {key for key in keys_in_status() if f"`{key}`" in text}
    assert keys_of(example) <= keys_in_status()
    assert keys_in_status() - keys_of(example) - described == set()


def test_ffmpeg_options_that_are_explained_are_used() -> None:
    """Those of the tables before "What is avoided"."""
    text = (ROOT / "docs" / "ffmpeg.md").read_text("utf-8").partition("## What is avoided")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    options = {word for cell in cells for span in spans(cell) for word in span.split() if word[0] == "-"}
    sources = [ROOT / "ingestd" / "media" / "ffmpeg.py", *(ROOT / "ingestd" / "sinks").glob("*.py")]
    code = "\n".join(path.read_text("utf-8") for path in sources)
    assert {option for option in options if f'"{option}"' not in code} == set()


def test_every_sink_type_is_in_the_readme() -> None:
    named = set(spans(prose(ROOT / "README.md")))
    assert set(SINKS) <= named


def test_the_bounds_have_their_defaults() -> None:
    """The numbers of docs/architecture.md's table of bounds are those of the code."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = text.partition("## Bounds")[2].partition("\n## ")[0]
    defaults = Config(path=ROOT / "ingestd.toml")
    for key, shown in {
        "ingest.receive_buffer": "256 KiB",
        "ingest.max_message": "16 MiB",
        "ingest.channel": "16 chunks",
        "journal.max_size": "64 GiB",
        "journal.max_age": "6 h",
        "journal.min_free": "256 MiB",
        "hub.memory": "32 MiB",
        "hub.window": "1 minute",
        "hub.max_lag": "8 s",
        "ingest.max_streams": "32",
        "database.pool": "4",
        "database.timeout": "5 s",
    }.items():
        section, _, name = key.partition(".")
        number, unit = (*shown.split(), "")[:2]
        factor = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "h": 3600, "minute": 60}.get(unit, 1)
        assert getattr(getattr(defaults, section), name) == int(number) * factor, key
        assert any(shown in row and f"`{key}`" in row for row in table.splitlines()), key


def test_the_picture_is_well_formed() -> None:
    picture = ElementTree.parse(ROOT / "docs" / "img" / "live-path.svg").getroot()  # noqa: S314  our own file
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"


# That the checks themselves see what they are for


def test_a_dead_link_is_found() -> None:
    readme = ROOT / "README.md"
    text = "[a](docs/nothing.md) [b](README.md#nowhere) [c](README.md#why) [d](https://example.org/x)"
    assert dead_links(readme, text) == ["docs/nothing.md", "README.md#nowhere"]


def test_a_missing_file_is_found() -> None:
    text = "`ingestd/live/hub.py` `ingestd/live/heart.py` `hls/<stream>/x` `docs/*.md`"
    assert missing_files(text) == ["ingestd/live/heart.py"]


def test_an_unknown_key_is_found() -> None:
    assert unknown_keys('`journal.ack = "synced"` `hub.window` `hub.widow`') == ["hub.widow"]
