"""``ingestd.toml`` and ``pipelines/*.toml`` → `Config`, with all problems of all files at once.

Stream keys never appear in a problem, and only their SHA-256 leaves this module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from ingestd import config
from ingestd.auth.settings import problems
from ingestd.config import Config, KeyFile, Pipeline, StreamConfig
from ingestd.credentials import CredentialError, read_sealing_keys, read_secret
from ingestd.database_url import DatabaseUrlError, check_database_url
from ingestd.errors import ConfigError
from ingestd.mux_check import check_mux
from ingestd.names import KEY, KEY_EXPECTED, NAME, NAME_EXPECTED
from ingestd.pipeline_file import SinkTypes, check_files, load_pipeline
from ingestd.problems import Report
from ingestd.structure import did_you_mean, join, type_name, unknown_key
from ingestd.webhook_file import load_webhooks

_SECTIONS: dict[str, type[Any]] = {
    "ingest": config.Ingest,
    "viewers": config.Viewers,
    "control": config.Control,
    "auth": config.Auth,
    "storage": config.Storage,
    "database": config.DatabaseConfig,
    "journal": config.JournalConfig,
    "hub": config.HubConfig,
    "supervisor": config.SupervisorConfig,
    "ffmpeg": config.FfmpegConfig,
    "log": config.LogConfig,
    "notify": config.Notify,
    "shutdown": config.Shutdown,
    "mux": config.MuxConfig,
    "pipelines": config.Pipelines,
}
_OTHERS = ("streams", "webhooks")


@frozen(slots=True, kw_only=True)
class _Stream:
    pipeline: str
    key: str = field(default="", repr=False)
    key_file: KeyFile = ""


def load(path: Path, sink_types: SinkTypes, found: Iterable[str] = ()) -> Config:
    """The configuration in *path* and in the pipeline files that it points to.

    *sink_types* maps ``type`` in ``[[sinks]]`` to option classes; *found* are problems with packages
    of sinks, which are reported with the others. Relative paths become absolute
    against the directory of *path*. The key files of the streams must be readable, and so must
    those of the pipelines that these streams use; other pipelines may name files that do not
    exist yet.

    Raises `ConfigError` with every problem found, and nothing else.
    """
    report = Report(path)
    report.problems += found
    table = report.read(path)
    if table is None:
        raise ConfigError(report.problems)
    base = path.absolute().parent
    sections = _sections(path, table, report)
    directory = base / sections.get("pipelines", config.Pipelines()).dir
    pipelines = _pipelines(path, directory, sink_types, report) if "pipelines" in sections else None
    streams = _streams(path, table.get("streams", {}), pipelines, report)
    if "mux" in sections and "supervisor" in sections:
        seals = "database" not in sections or bool(sections["database"].secret_key_file)
        check_mux(path, sections["mux"], sections["supervisor"], pipelines or {}, report, seals=seals)
    webhooks = load_webhooks(path, table.get("webhooks", []), report)
    usable = {name: pipeline for name, pipeline in (pipelines or {}).items() if pipeline is not None}
    for name in sorted({stream.pipeline for stream in streams.values()} & usable.keys()):
        check_files(report.shown(directory / f"{name}.toml"), usable[name], report)
    if report.problems:
        raise ConfigError(report.problems)
    del sections["pipelines"]
    sections["storage"] = config.Storage(state_dir=base / sections["storage"].state_dir)
    return Config(
        path=path.absolute(),
        pipelines_dir=config.Pipelines(dir=directory),
        streams=streams,
        webhooks=webhooks,
        pipelines=usable,
        **sections,
    )


def hash_key(key: str) -> bytes:
    """What is kept of a stream key: its SHA-256."""
    return hashlib.sha256(key.encode()).digest()


def _sections(path: Path, table: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """The sections that are right, by name; one that the file leaves out has its defaults."""
    sections: dict[str, Any] = {}
    for name in table:
        if name not in _SECTIONS and name not in _OTHERS:
            report.add(path, join("", name), unknown_key(name, [*_SECTIONS, *_OTHERS]))
    for name, kind in _SECTIONS.items():
        section = report.structure(path, name, table.get(name, {}), kind)
        if section is not None:
            sections[name] = section
    if "database" in sections:
        sections["database"] = _database(path, sections["database"], report)
    if "ingest" in sections and "control" in sections:
        ingest, control = sections["ingest"].bind, sections["control"].bind
        if control.overlaps(ingest):
            text = f"{control} is taken by ingest.bind = {ingest}; expected another port for one of them"
            report.add(path, "control.bind", text)
    if "control" in sections and "auth" in sections:
        for key, text in problems(sections["control"], sections["auth"]):
            report.add(path, key, text)
    return sections


def _database(path: Path, database: config.DatabaseConfig, report: Report) -> config.DatabaseConfig:
    """*database* with the URL of its file. What is read from secret_key_file is checked, and not kept."""
    if database.url and database.url_file:
        report.add(path, "database", "expected at most one of url and url_file, got both")
        return database
    key = "url_file" if database.url_file else "url"
    try:
        if database.url_file:
            database = evolve(database, url=read_secret(database.url_file))
        check_database_url(database.url)
    except (CredentialError, DatabaseUrlError) as error:
        report.add(path, f"database.{key}", str(error))
    try:
        if database.secret_key_file:
            read_sealing_keys(database.secret_key_file)
    except CredentialError as error:
        report.add(path, "database.secret_key_file", str(error))
    return database


def _pipelines(
    path: Path, directory: Path, sink_types: SinkTypes, report: Report
) -> dict[str, Pipeline | None] | None:
    """Each pipeline by its id, None for one with problems; None altogether without a directory."""
    shown = report.shown(directory)
    try:
        files = sorted(file for file in directory.iterdir() if file.suffix == ".toml")
    except (FileNotFoundError, NotADirectoryError):
        text = f'there is no directory {shown}; "ingestd init" writes the shipped one'
        report.add(path, "pipelines.dir", text)
        return None
    except OSError as error:
        report.add(path, "pipelines.dir", f"cannot read {shown}: {error.strerror}")
        return None
    files = [file for file in files if not file.name.startswith(".")]  # an editor's own
    return {file.stem: load_pipeline(report.shown(file), sink_types, report) for file in files}


def _streams(
    path: Path, tables: object, pipelines: Mapping[str, Pipeline | None] | None, report: Report
) -> dict[str, StreamConfig]:
    if not isinstance(tables, dict):
        report.add(path, "streams", f"expected tables like [streams.demo], got {type_name(tables)}")
        return {}
    streams: dict[str, StreamConfig] = {}
    owners: dict[bytes, str] = {}
    for name, table in tables.items():
        where = join("streams", name)
        if NAME.fullmatch(name) is None:
            report.add(path, where, NAME_EXPECTED)
            continue
        stream: _Stream | None = report.structure(path, where, table, _Stream)
        if stream is None:
            continue
        if pipelines is not None and stream.pipeline not in pipelines:
            known = ", ".join(sorted(pipelines)) or "none"
            hint = did_you_mean(stream.pipeline, pipelines)
            report.add(path, f"{where}.pipeline", f'no pipeline "{stream.pipeline}" (known: {known}){hint}')
        key = _stream_key(path, where, stream, report)
        if key is None:
            continue
        hashed = hash_key(key)
        owner = owners.setdefault(hashed, where)
        if owner != where:
            report.add(path, where, f"has the same key as {owner}; give each stream its own")
        streams[name] = StreamConfig(name=name, pipeline=stream.pipeline, key_sha256=hashed)
    return streams


def _stream_key(path: Path, where: str, stream: _Stream, report: Report) -> str | None:
    if bool(stream.key) == bool(stream.key_file):
        given = "both" if stream.key else "neither"
        report.add(path, where, f"expected exactly one of key and key_file, got {given}")
        return None
    where = f"{where}.key" if stream.key else f"{where}.key_file"
    try:
        key = stream.key or read_secret(stream.key_file)
    except CredentialError as error:
        report.add(path, where, str(error))
        return None
    if KEY.fullmatch(key) is None:
        report.add(path, where, f"this key cannot stand in a URL; {KEY_EXPECTED}")
        return None
    return key
