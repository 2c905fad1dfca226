"""Configurations on disk for these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd.config import Config
from ingestd.config_file import load
from ingestd.errors import ConfigError
from ingestd.sinks import SINKS

HLS = '[[sinks]]\ntype = "hls"\n'


def write(directory: Path, text: str = "", **pipelines: str) -> Path:
    """``ingestd.toml`` with *text*, and *pipelines* (``hls`` where none are given); returns its path."""
    (directory / "pipelines").mkdir(exist_ok=True)
    for name, pipeline in (pipelines or {"hls": HLS}).items():
        (directory / "pipelines" / f"{name}.toml").write_text(pipeline, "utf-8")
    path = directory / "ingestd.toml"
    path.write_text(text, "utf-8")
    return path


def load_text(directory: Path, text: str = "", **pipelines: str) -> Config:
    """What *text* and *pipelines* mean."""
    return load(write(directory, text, **pipelines), SINKS)


def problems(directory: Path, text: str = "", **pipelines: str) -> list[str]:
    """The problems of *text* and *pipelines*, without the directory; it fails if there are none."""
    with pytest.raises(ConfigError) as caught:
        load_text(directory, text, **pipelines)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [problem.replace(f"{directory}/", "") for problem in caught.value.problems]
