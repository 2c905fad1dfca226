"""Whatever stands in the files: a configuration or a `ConfigError`, and no value that may be a secret."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.config import Audio, Config, Video, Webhook
from ingestd.config_file import load
from ingestd.errors import ConfigError
from ingestd.sinks import SINKS
from tests.config.tools import write

SECRET = "correct-horse-battery-staple"


def keys(kind: type[Any]) -> list[str]:
    return [field.name for field in attrs.fields(kind)]


_TABLES = {
    field.name.removesuffix("_dir"): keys(type(field.default))
    for field in attrs.fields(Config)
    if attrs.has(type(field.default))
} | {"streams.demo": ["key", "key_file", "pipeline"], "[webhooks]": keys(Webhook)}
_OPTIONS = sorted({key for kind in SINKS.values() for key in keys(kind)})

scalars = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.just(10**400),
    st.text(max_size=12),
    st.sampled_from(
        ["", "~nobody-here/x", "\0", "credential:", "credential:..", "1s", "1MiB", "rtmp://[/", "0"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)


def toml(value: Any) -> str:
    """*value* as TOML writes it inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value.isprintable() else '"\\u0000"'
    return str(value).lower()


def table(name: str, known: list[str]) -> st.SearchStrategy[str]:
    lines = st.dictionaries(st.sampled_from(known), values, max_size=4)
    return lines.map(
        lambda pairs: "\n".join([name, *(f"{key} = {toml(item)}" for key, item in pairs.items())])
    )


main_files = st.tuples(*(table(f"[{name}]", keys) for name, keys in _TABLES.items())).map("\n".join)
pipeline_files = st.tuples(
    table("[video]", keys(Video)),
    table("[audio]", keys(Audio)),
    *(table(f'[[sinks]]\ntype = "{name}"', _OPTIONS) for name in SINKS),
).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(main_files, pipeline_files)
def test_any_values(main: str, pipeline: str) -> None:
    """No value of any type in any place raises anything else, and every problem is one line."""
    with tempfile.TemporaryDirectory() as directory:
        problems = problems_of(write(Path(directory), main, hls=pipeline))
    for problem in problems:
        assert problem.startswith(directory)
        assert not problem.endswith(": ")
        assert "TOML" not in problem


def problems_of(path: Path) -> list[str]:
    try:
        load(path, SINKS)
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize("text", ["=", "[" * 5000, "a = " + "9" * 5000, 'a = "', "\x00", "[a]\n[a]"])
def test_any_text(tmp_path: Path, text: str) -> None:
    """What is no TOML is one problem."""
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), SINKS)
    [problem] = caught.value.problems
    assert problem.startswith(f"{tmp_path}/ingestd.toml: not ")


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["key", "url", "endpoint"]),
    st.sampled_from(["{}", "[{}]", "{{ a = {} }}"]),
    pipeline_files,
)
def test_secrets_in_the_wrong_place(key: str, shape: str, pipeline: str) -> None:
    """A secret is not repeated, however wrong its type and all around it is."""
    secret = shape.format(f'"{SECRET}"')
    text = f'{pipeline}\n[[sinks]]\ntype = "mux"\n{key} = {secret}\n'
    text += f'[[sinks]]\ntype = "rtmp"\nname = "x"\n{key} = {secret}\n'
    with tempfile.TemporaryDirectory() as directory, pytest.raises(ConfigError) as caught:
        load(write(Path(directory), f'[streams.a]\npipeline = "h"\nkey = {secret}', hls=text), SINKS)
    assert SECRET not in str(caught.value)
