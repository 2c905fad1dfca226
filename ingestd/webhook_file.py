"""``[[webhooks]]`` in ``ingestd.toml`` → `Webhook`. No problem repeats a URL or a secret."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from ingestd.config import Webhook
from ingestd.credentials import CredentialError, read_signing_secrets
from ingestd.names import NAME, NAME_EXPECTED
from ingestd.problems import Report
from ingestd.public_address import not_public
from ingestd.structure import type_name

MOST = 100
"""Endpoints there may be: each has a task of its own."""

_EXPECTED = 'expected a URL like "https://app.example.org/hooks/ingestd"'
_LONGEST = 2048


def load_webhooks(path: Path, tables: object, report: Report) -> tuple[Webhook, ...]:
    """The webhooks in *tables*, the value of ``webhooks``; *report* has what is wrong with them.

    Their secrets must be readable, and are not kept: they are read anew for each attempt.
    """
    if not (isinstance(tables, list) and all(isinstance(table, dict) for table in tables)):
        report.add(path, "webhooks", f"expected [[webhooks]] tables, got {type_name(tables)}")
        return ()
    if len(tables) > MOST:
        report.add(path, "webhooks", f"expected at most {MOST} of them, got {len(tables)}")
        return ()
    webhooks: dict[str, Webhook] = {}
    for number, table in enumerate(tables, 1):
        name = table.get("name")
        named = isinstance(name, str) and NAME.fullmatch(name)
        where = f"webhooks.{name if named else f'#{number}'}"
        webhook: Webhook | None = report.structure(path, where, table, Webhook)
        if webhook is None:
            continue
        if not named:
            report.add(path, f"{where}.name", NAME_EXPECTED)
        elif webhook.name in webhooks:
            report.add(path, f"{where}.name", f'a second one is named "{name}"; give each its own name')
        if (problem := _url_problem(webhook)) is not None:
            report.add(path, f"{where}.url", problem)
        if not webhook.secret_file:
            report.add(path, f"{where}.secret_file", 'expected a path, or "credential:NAME"')
            continue
        try:
            read_signing_secrets(webhook.secret_file)
        except CredentialError as error:
            report.add(path, f"{where}.secret_file", str(error))
        webhooks.setdefault(webhook.name, webhook)
    return tuple(webhooks.values())


def _url_problem(webhook: Webhook) -> str | None:
    """What is wrong with its URL, and what to do."""
    url = webhook.url
    if not (url.isascii() and url.isprintable()) or " " in url or len(url) > _LONGEST:
        return f"{_EXPECTED}, of printable ASCII without spaces (xn--… for other letters)"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  looking at it checks it
    except ValueError:
        return f"{_EXPECTED}; this one cannot be read"
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        return _EXPECTED
    if "@" in parts.netloc:
        return f"{_EXPECTED} without user and password: requests are signed, see secret_file"
    if parts.fragment or "#" in url:
        return f"{_EXPECTED}, without a fragment"
    return None if webhook.allow_private else _public_problem(parts)


def _public_problem(parts: SplitResult) -> str | None:
    if parts.scheme == "http":
        return f"{_EXPECTED}: http:// is for your own network only; allow_private = true if this is it"
    try:
        kind = not_public(parts.hostname or "")
    except ValueError:  # a name: its addresses are looked at when it is connected to
        return None
    if kind is not None:
        return f"the address is {kind}; expected a public one, or allow_private = true if it is meant"
    return None
