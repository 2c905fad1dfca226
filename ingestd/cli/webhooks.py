"""``ingestd webhooks``: who is told what happens, what came of it, and another try."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from ingestd.cli.common import config_option, run
from ingestd.cli.connect import (
    api_option,
    api_url,
    asking,
    echo_json,
    json_option,
    lines_option,
    print_rows,
)  # fmt: skip
from ingestd.cli.view import labelled, table
from ingestd.cli.wording import clock
from ingestd.webhook_types import WEBHOOK_TYPES, chosen

_STYLES = {"delivered": "green", "pending": "yellow", "failed": "bold red"}


@click.group
def webhooks() -> None:
    """Show who is told what a running daemon does, and what came of it; send again.

    \b
    ingestd webhooks list                        the endpoints of [[webhooks]], and how they do
    ingestd webhooks test app                    does it hear us?
    ingestd webhooks deliveries app --state failed
    ingestd webhooks retry evt_9f1c…_00000012.app

    \b
    Everything that was given up, once more:
      ingestd webhooks deliveries --state failed --json | jq -r '.deliveries[].id' \\
        | xargs -rn1 ingestd webhooks retry

    To look takes a token of scope "read" in $INGESTD_TOKEN where the daemon wants one, to send "admin".
    docs/webhooks.md says what is sent.
    """  # noqa: D301  \b is click's mark for lines that stay as they are


@webhooks.command("list", short_help="List the endpoints.")
@config_option
@api_option
@json_option
def list_endpoints(config_path: Path, url: str | None, as_json: bool) -> None:
    """List the endpoints, with what they were told since the daemon's start."""
    found = run(_endpoints, api_url(url, config_path))
    if as_json:
        echo_json({"webhooks": found})
        return
    rows = table("name", "at", "pending", "delivered", "failed", "dropped", "failing for",
                 "last error", "told of")  # fmt: skip
    rows.columns[0].min_width = max((len(one["name"]) for one in found), default=0)
    now = datetime.now(UTC)
    for one in found:
        since = one["failing_since"]
        lasting = clock((now - datetime.fromisoformat(since)).total_seconds()) if since else "–"
        everything = chosen(tuple(one["events"])) == set(WEBHOOK_TYPES)
        told = "everything" if everything else ", ".join(one["events"])
        told += f" of {', '.join(one['streams'])}" if one["streams"] else ""
        counts = [str(one[key]) for key in ("pending", "delivered", "failed", "dropped")]
        failing = Text(lasting, "bold red" if since else "")
        rows.add_row(
            Text(one["name"], "bold"), one["origin"], *counts, failing, one["last_error"] or "–", told
        )  # fmt: skip
    print_rows(rows if found else "no webhooks: ingestd.toml has no [[webhooks]]", {})


@webhooks.command(short_help="List what was sent, or waits.")
@click.argument("endpoint", required=False)
@click.option("--state", type=click.Choice(tuple(_STYLES)), help="Only in this state.")
@lines_option
@config_option
@api_option
@json_option
def deliveries(
    endpoint: str | None, state: str | None, limit: int, config_path: Path, url: str | None, as_json: bool
) -> None:
    """List the last deliveries, or those to ENDPOINT. They are kept for notify.keep_for."""
    found = run(_deliveries, api_url(url, config_path), limit, {"endpoint": endpoint, "state": state})
    if as_json:
        echo_json(found)
        return
    rows = table("id", "type", "stream", "state", "created", "tries", "last answer")
    rows.columns[0].min_width = max((len(one["id"]) for one in found["deliveries"]), default=0)
    for one in found["deliveries"]:
        created = datetime.fromisoformat(one["created"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        rows.add_row(
            one["id"], one["type"], _stream(one), Text(one["state"], _STYLES.get(one["state"], "")), created,
            str(one["attempts"]), one["last_error"] or str(one["last_status"] or "–"),
        )  # fmt: skip
    print_rows(rows if found["deliveries"] else "no deliveries", found)


@webhooks.command(short_help="Show a delivery in full.")
@click.argument("identifier", metavar="ID")
@config_option
@api_option
@json_option
def show(identifier: str, config_path: Path, url: str | None, as_json: bool) -> None:
    """Show delivery ID in full, with the body that is sent."""
    _tell(run(_delivery, api_url(url, config_path), identifier), as_json)


@webhooks.command(short_help="Deliver one again.")
@click.argument("identifier", metavar="ID")
@config_option
@api_option
@json_option
def retry(identifier: str, config_path: Path, url: str | None, as_json: bool) -> None:
    """Send delivery ID again, whether it was delivered or given up; one that waits, at once."""
    found = run(_redeliver, api_url(url, config_path), identifier)
    if as_json:
        echo_json(found)
    else:
        click.echo(f"{identifier} is tried again")


@webhooks.command(short_help="Send a test.")
@click.argument("endpoint")
@config_option
@api_option
@json_option
def test(endpoint: str, config_path: Path, url: str | None, as_json: bool) -> None:
    """Send an event of type webhook.test to ENDPOINT, signed as any other.

    What came of it: ingestd webhooks show ID.
    """
    found = run(_test, api_url(url, config_path), endpoint)
    if as_json:
        echo_json(found)
    else:
        click.echo(f"sent to {endpoint} as {found['id']}")


def _tell(delivery: dict[str, Any], as_json: bool) -> None:
    if as_json:
        echo_json(delivery)
        return
    console = Console(highlight=False)
    for key in (
        "id", "endpoint", "type", "state", "created", "attempts", "next_attempt", "last_status", "last_error",
        "delivered_at", "body",
    ):  # fmt: skip
        if delivery[key] is not None:
            label = {"next_attempt": "next", "last_status": "status", "last_error": "error",
                     "delivered_at": "delivered"}.get(key, key)  # fmt: skip
            console.print(labelled(label, Text(str(delivery[key]))), soft_wrap=True)


def _stream(delivery: dict[str, Any]) -> str:
    try:
        return str(json.loads(delivery["body"])["data"]["stream"])
    except (ValueError, KeyError, TypeError):
        return "–"


async def _endpoints(base_url: str) -> list[dict[str, Any]]:
    async with asking(base_url) as control:
        return await control.webhooks()


async def _deliveries(base_url: str, limit: int, wanted: dict[str, str | None]) -> dict[str, Any]:
    async with asking(base_url) as control:
        return await control.deliveries(limit, **wanted)


async def _delivery(base_url: str, identifier: str) -> dict[str, Any]:
    async with asking(base_url) as control:
        return await control.delivery(identifier)


async def _redeliver(base_url: str, identifier: str) -> dict[str, Any]:
    async with asking(base_url) as control:
        return await control.redeliver(identifier)


async def _test(base_url: str, endpoint: str) -> dict[str, Any]:
    async with asking(base_url) as control:
        return await control.test_webhook(endpoint)
