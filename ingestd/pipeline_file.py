"""``pipelines/*.toml`` → `Pipeline`: the file's stem is the pipeline's id."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from ingestd.config import Audio, Pipeline, PublisherConfig, Slate, Video
from ingestd.credentials import CredentialError, locate, read_secret
from ingestd.names import NAME, NAME_EXPECTED
from ingestd.problems import Report
from ingestd.structure import did_you_mean, join, type_name, unknown_key

#: ``type`` in ``[[sinks]]`` → option class, as `ingestd.sinks.SINKS` has them.
SinkTypes: TypeAlias = Mapping[str, type[Any]]

_TABLES: dict[str, type[Any]] = {"video": Video, "audio": Audio, "publisher": PublisherConfig, "slate": Slate}
_PARTS = (*_TABLES, "sinks")


def load_pipeline(path: Path, sink_types: SinkTypes, report: Report) -> Pipeline | None:
    """The pipeline in *path*, or None with at least one problem in *report*."""
    before = len(report.problems)
    if NAME.fullmatch(path.stem) is None:
        report.add(path, "", f"the file's name is the pipeline's; {NAME_EXPECTED}")
    table = report.read(path)
    if table is None:
        return None
    parts: dict[str, Any] = {}
    for name, value in table.items():
        if name in _TABLES:
            parts[name] = report.structure(path, name, value, _TABLES[name])
        elif name == "sinks":
            parts[name] = _sinks(path, value, sink_types, report)
        else:
            report.add(path, join("", name), unknown_key(name, _PARTS))
    video: Video | None = parts.get("video")
    if video is not None and video.codec != "copy" and video.maxrate < video.bitrate:
        report.add(path, "video.maxrate", "expected at least video.bitrate; raise it, or lower the bitrate")
    slate: Slate | None = parts.get("slate")
    if slate is not None:
        _check_slate(path, slate, video, report)
    if len(report.problems) > before:
        return None
    return Pipeline(id=path.stem, **parts)


def _check_slate(path: Path, slate: Slate, video: Video | None, report: Report) -> None:
    if slate.show != "hold" and video is not None and video.codec == "copy":
        expected = 'nothing is encoded with video.codec = "copy"; expected "hold", or video.codec = "h264"'
        report.add(path, "slate.show", expected)
    if slate.show == "image" and not slate.image:
        report.add(path, "slate.image", 'expected the path of a picture, as slate.show is "image"')


def check_files(path: Path, pipeline: Pipeline, report: Report) -> None:
    """Note each file that *pipeline* names and that cannot be used."""
    if pipeline.slate.image and not os.access(locate(pipeline.slate.image), os.R_OK):
        report.add(path, "slate.image", f"there is no readable file {pipeline.slate.image}")
    for sink in pipeline.sinks:
        for attribute in attrs.fields(type(sink)):
            value = getattr(sink, attribute.name)
            marks = getattr(attribute.type, "__metadata__", ())
            key = f"sinks.{sink.name}.{attribute.name}"
            try:
                if value and "key_file" in marks:
                    read_secret(value)
                elif value and "file" in marks and not os.access(locate(value), os.R_OK):
                    report.add(path, key, f"there is no readable file {value}")
            except CredentialError as error:
                report.add(path, key, str(error))


def _sinks(path: Path, tables: object, sink_types: SinkTypes, report: Report) -> tuple[Any, ...]:
    if not (isinstance(tables, list) and all(isinstance(table, dict) for table in tables)):
        report.add(path, "sinks", f"expected [[sinks]] tables, got {type_name(tables)}")
        return ()
    given = {table["name"] for table in tables if isinstance(table.get("name"), str)}
    taken: set[str] = set()
    claims: dict[str, str] = {}
    sinks: list[Any] = []
    for number, table in enumerate(tables, 1):
        kind = _sink_type(path, f"sinks.#{number}.type", table, sink_types, report)
        if kind is None:
            continue
        explicit = table.get("name")
        name = explicit if explicit and isinstance(explicit, str) else _free_name(kind.type, given | taken)
        key = join("sinks", name)
        if NAME.fullmatch(name) is None:
            report.add(path, f"{key}.name", NAME_EXPECTED)
        elif name in taken:
            report.add(path, f"{key}.name", f'a second sink is named "{name}"; give each its own name')
        taken.add(name)
        options = {option: value for option, value in table.items() if option != "type"}
        try:
            sink = report.structure(path, key, options, kind)
            if sink is None:
                continue
            found = [(str(option), str(text)) for option, text in sink.problems()]
            # A sink type may name what only one sink of a pipeline can write to.
            claim = str(getattr(sink, "claim", ""))
        except Exception as error:  # sink types by others; the values may be secrets, so no more is said
            text = f"a defect in sink type {kind.type} ({kind.__module__}): {type(error).__name__}"
            report.add(path, key, f"{text}; update its package or report it there")
            continue
        for option, text in found:
            report.add(path, f"{key}.{option}" if option else key, text)
        if claim and claims.setdefault(claim, key) != key:
            report.add(path, key, f"writes to the same place as {claims[claim]}; remove one of them")
        sinks.append(attrs.evolve(sink, name=name))
    return tuple(sinks)


def _sink_type(
    path: Path, key: str, table: Mapping[str, Any], sink_types: SinkTypes, report: Report
) -> type[Any] | None:
    name = table.get("type")
    known = ", ".join(sorted(sink_types))
    if name is None:
        report.add(path, key, f"is missing; known types: {known}")
    elif not isinstance(name, str):
        report.add(path, key, f"expected a string in quotes, got {type_name(name)}")
    elif name not in sink_types:
        report.add(path, key, f'no sink type "{name}" (known: {known}){did_you_mean(name, sink_types)}')
    else:
        return sink_types[name]
    return None


def _free_name(kind: str, taken: set[str]) -> str:
    """*kind* itself, then ``kind-2``, ``kind-3`` and so on."""
    name, number = kind, 1
    while name in taken:
        number += 1
        name = f"{kind}-{number}"
    return name
