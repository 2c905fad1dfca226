"""What must fit together for Mux: ``[mux]``, the supervisors, and the pipelines with a ``mux`` sink."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ingestd.config import MuxConfig, Pipeline, SupervisorConfig
from ingestd.credentials import CredentialError, read_secret, read_secrets
from ingestd.problems import Report
from ingestd.units import format_duration


def check_mux(
    path: Path,
    mux: MuxConfig,
    supervisor: SupervisorConfig,
    pipelines: Mapping[str, Pipeline | None],
    report: Report,
    *,
    seals: bool = True,
) -> None:
    """Note what of ``[mux]`` in *path* cannot work, by itself or with *supervisor* and the *pipelines*.

    *seals*: the database keeps keys of targets, as that of each live stream is.
    """
    _check_files(path, mux, report)
    if problem := api_problem(mux.api):
        report.add(path, "mux.api", problem)
    # One with a key belongs to a live stream that somebody else has made.
    sinks = [sink for pipeline in pipelines.values() if pipeline is not None for sink in pipeline.sinks]
    patience = max((sink.timeout for sink in sinks if sink.type == "mux" and sink.per_stream), default=0.0)
    if mux.enabled and patience and (problem := window_problem(mux.reconnect_window, supervisor, patience)):
        report.add(path, "mux.reconnect_window", problem)
    if mux.enabled and patience and not seals:
        text = (
            "is missing: expected the file of the key that seals the stream keys which Mux gives; make one: "
        )
        report.add(path, "database.secret_key_file", f"{text}openssl rand -base64 32 > FILE")


def window_problem(window: float, supervisor: SupervisorConfig, patience: float) -> str:
    """Why Mux would end a recording while we still reconnect; nothing if it does not.

    *window* is Mux's reconnect window in seconds, *patience* the timeout of the mux sink.
    """
    worst = supervisor.worst_recovery(patience)
    if window >= worst:
        return ""
    return (
        f"{format_duration(window)} is shorter than our worst recovery, {format_duration(worst)}: Mux would "
        "end the recording while we still reconnect; raise it, or lower supervisor.backoff, "
        "supervisor.stall_timeout, supervisor.retry_failed_every or the timeout of the mux sink"
    )


def api_problem(url: str) -> str:
    """What is wrong with the base *url* of the API, or nothing. Never repeats it: it may hold a password."""
    expected = 'expected a URL like "https://api.mux.com"'
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"{expected}; this one cannot be parsed"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return f"{expected}; this one has another scheme, or no host, or port 0"
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        return f"{expected}, without user, password, query and fragment; the token comes from its files"
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return f"{expected}; over http the token would go through the network in the clear"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_files(path: Path, mux: MuxConfig, report: Report) -> None:
    if bool(mux.token_id_file) != bool(mux.token_secret_file):
        missing = "token_secret_file" if mux.token_id_file else "token_id_file"
        report.add(path, f"mux.{missing}", "is missing: expected both halves of the token, or neither")
    for key, read in (
        ("token_id_file", read_secret),
        ("token_secret_file", read_secret),
        ("webhook_secret_file", read_secrets),
    ):
        spec = getattr(mux, key)
        try:
            if spec:
                read(spec)
        except CredentialError as error:
            report.add(path, f"mux.{key}", str(error))
