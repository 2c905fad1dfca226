"""The shipped files are the manual: they and the classes say the same, both ways."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest

from ingestd import config
from ingestd.config import Config, Pipeline, StreamConfig
from ingestd.config_file import hash_key, load
from ingestd.sinks import SINKS
from ingestd.sinks.base import Sink

ROOT = Path(__file__).parents[2]
SHOWN = re.compile(r"^# (?=[a-z_]+ = )", re.MULTILINE)
#: Keys that have no default to show, and where the shipped pipelines set them.
REQUIRED = {("rtmp", "url"), ("rtmp", "key_file"), ("mux", "key_file")}
#: `key_file` is what one should use; `key` is for quick trials, and only the loader speaks of it.
UNSHOWN = {("rtmp", "key"), ("mux", "key")}


def uncommented(path: Path) -> dict[str, Any]:
    """The file with each shown default switched on."""
    return tomllib.loads(SHOWN.sub("", path.read_text("utf-8")))


def keys(kind: type[Any]) -> set[str]:
    return {attribute.name for attribute in attrs.fields(kind)}


def test_the_shipped_configuration_is_right() -> None:
    """It loads as it stands, with a demo stream that uses one of its pipelines."""
    loaded = load(ROOT / "ingestd.toml", SINKS)
    assert loaded.streams == {"demo": StreamConfig(name="demo", pipeline="hls", key_sha256=hash_key("demo"))}
    assert set(loaded.pipelines) == {"archive", "hls", "mux", "simulcast"}


def test_every_shown_default_is_the_default(tmp_path: Path) -> None:
    """With every "# key = value" line switched on nothing changes."""
    (tmp_path / "pipelines").mkdir()
    for path in (ROOT / "ingestd.toml", *(ROOT / "pipelines").glob("*.toml")):
        text = path.read_text("utf-8")
        (tmp_path / path.relative_to(ROOT)).write_text(SHOWN.sub("", text), "utf-8")
    shown, plain = load(tmp_path / "ingestd.toml", SINKS), load(ROOT / "ingestd.toml", SINKS)
    for field in attrs.fields(Config):
        if field.name not in ("path", "storage", "pipelines_dir", "pipelines"):
            assert getattr(shown, field.name) == getattr(plain, field.name), field.name
    assert shown.storage.state_dir == tmp_path / "var"
    assert shown.pipelines_dir.dir == tmp_path / "pipelines"
    assert _relative(shown.pipelines, tmp_path) == _relative(plain.pipelines, ROOT)


def _relative(pipelines: dict[str, Pipeline], base: Path) -> str:
    return str(sorted(pipelines.items())).replace(f"{base}/", "")


def test_every_key_of_the_main_file_is_shown() -> None:
    """No key is missing, and none is shown that does not exist."""
    shown = uncommented(ROOT / "ingestd.toml")
    del shown["streams"]
    declared = {
        field.name.removesuffix("_dir"): keys(type(field.default))
        for field in attrs.fields(Config)
        if attrs.has(type(field.default))
    }
    assert {section: set(table) for section, table in shown.items()} == declared


def test_every_key_of_a_webhook_is_shown() -> None:
    """The example has each once, and what it says are the defaults."""
    text = "\n".join(re.findall(r"^#   (.*)$", (ROOT / "ingestd.toml").read_text("utf-8"), re.MULTILINE))
    [table] = tomllib.loads(text)["webhooks"]
    assert set(table) == keys(config.Webhook)
    assert (table["allow_private"], table["timeout"]) == (False, "15s")


def test_every_key_of_a_pipeline_is_shown() -> None:
    """hls.toml shows the video and audio keys; each sink's are shown where the sink is first used."""
    shown = uncommented(ROOT / "pipelines" / "hls.toml")
    assert set(shown["video"]) == keys(config.Video)
    assert set(shown["audio"]) == keys(config.Audio)
    seen: dict[str, set[str]] = {}
    for path in (ROOT / "pipelines").glob("*.toml"):
        for table in uncommented(path)["sinks"]:
            seen.setdefault(table["type"], set()).update(table.keys() - {"type"})
    for name, kind in SINKS.items():
        expected = {key for key in keys(kind) if (name, key) not in UNSHOWN}
        assert seen[name] | {"name"} == expected | {"name"}, name


@pytest.mark.parametrize("name", SINKS)
def test_only_required_keys_have_no_default(name: str) -> None:
    """An operator who gives the type and what is secret or elsewhere gets a working sink."""
    kind: type[Sink] = SINKS[name]
    required = {field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING}
    assert {(name, key) for key in required} <= REQUIRED


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.toml")), ids=lambda path: str(path.name))
def test_configurations_for_hosts(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are right once their credentials are there."""
    for credential in re.findall(r"\"credential:([a-z-]+)\"", path.read_text("utf-8")):
        (tmp_path / credential).write_text(f"key-of-{credential}")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    text = path.read_text("utf-8")
    for pipelines in re.findall(r'^dir = "(.*)"$', text, re.MULTILINE):
        text = text.replace(pipelines, str(ROOT / "pipelines"))
    (tmp_path / "ingestd.toml").write_text(text, "utf-8")
    load(tmp_path / "ingestd.toml", SINKS)
