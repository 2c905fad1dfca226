"""``ingestd streams create``, ``update`` and ``reset-key``: what a stream is, and its key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from ingestd.cli.common import config_option, run
from ingestd.cli.connect import api_option, api_url, asking, echo_json, json_option
from ingestd.cli.details import stream_details
from ingestd.cli.stream_options import about_options, labels_of, mux_options, targets_of
from ingestd.cli.view import labelled
from ingestd.errors import IngestdError


@click.command(short_help="Make one, and print its key.")
@click.argument("name", required=False)
@about_options
@mux_options
@click.option("--disabled", is_flag=True, help='Nobody may publish it until "ingestd streams enable".')
@click.option(
    "--idempotency-key",
    metavar="TEXT",
    help="What is made with the same TEXT is made once, within 24 h. Default: a new one.",
)
@config_option
@api_option
@json_option
def create(
    name: str | None,
    title: str | None,
    pipeline: str | None,
    labels: tuple[str, ...],
    keys: tuple[str, ...],
    urls: tuple[str, ...],
    latency_mode: str | None,
    reconnect_window: float | None,
    playback_policy: str | None,
    disabled: bool,
    idempotency_key: str | None,
    config_path: Path,
    url: str | None,
    as_json: bool,
) -> None:
    """Make a stream, called NAME or as the daemon likes, and print its key, this once.

    \b
    ingestd streams create studio --title "Studio 1" --label customer=42
    ingestd streams create --pipeline simulcast --target youtube=youtube.key
    pass show youtube | ingestd streams create studio --target youtube=-
    ingestd streams create studio --pipeline mux --mux-latency low --mux-window 2m
    ingestd streams create --json | jq -r .ingest_url

    When the connection breaks it is tried again, and made once all the same.
    """  # noqa: D301
    wanted: dict[str, Any] = {"name": name, "pipeline": pipeline, "title": title}
    wanted |= {"labels": labels_of(labels), "targets": targets_of(keys, urls), "enabled": not disabled}
    at_mux = {
        "latency_mode": latency_mode,
        "reconnect_window": reconnect_window,
        "playback_policy": playback_policy,
    }
    wanted["mux"] = {key: value for key, value in at_mux.items() if value is not None}
    given = {key: value for key, value in wanted.items() if value not in (None, [], {})}
    made = run(_create, api_url(url, config_path), given, idempotency_key)
    _tell_key(made, "is made" if made["enabled"] else "is made, and disabled", as_json)


@click.command(short_help="Change what one is.")
@click.argument("name")
@about_options
@click.option("--no-label", "unlabel", metavar="KEY", multiple=True, help="Take this label off; repeatable.")
@click.option("--no-targets", is_flag=True, help="Forget all targets but those that are given here.")
@config_option
@api_option
@json_option
def update(
    name: str,
    title: str | None,
    pipeline: str | None,
    labels: tuple[str, ...],
    keys: tuple[str, ...],
    urls: tuple[str, ...],
    unlabel: tuple[str, ...],
    no_targets: bool,
    config_path: Path,
    url: str | None,
    as_json: bool,
) -> None:
    """Change stream NAME; what is not given stays as it is.

    \b
    ingestd streams update studio --title "Studio 2" --label customer=43 --no-label trial
    ingestd streams update studio --target youtube=new.key

    A session that runs goes on as it was begun. Targets are replaced as a whole, since nobody is told their
    keys: give all that the stream is to have.
    """  # noqa: D301
    changes: dict[str, Any] = {"title": title, "pipeline": pipeline}
    changes = {key: value for key, value in changes.items() if value is not None}
    if keys or urls or no_targets:
        changes["targets"] = targets_of(keys, urls)
    added = labels_of(labels)
    if not (changes or added or unlabel):
        raise click.UsageError("nothing to change: give --title, --pipeline, --label, --no-label or --target")
    status = run(_update, api_url(url, config_path), name, changes, added, unlabel, no_targets)
    if as_json:
        echo_json(status)
        return
    click.echo(f"{name} is changed")
    Console(highlight=False).print(stream_details(status), soft_wrap=True)


@click.command("reset-key", short_help="Give one another key.")
@click.argument("name")
@config_option
@api_option
@json_option
def reset_key(name: str, config_path: Path, url: str | None, as_json: bool) -> None:
    """Give stream NAME another key, and print it, this once.

    The old key is refused from now on, and whoever publishes with it is thrown out.
    """
    made = run(_reset_key, api_url(url, config_path), name)
    _tell_key(made, "has a new key; the old one is refused from now on", as_json)


def _tell_key(made: dict[str, Any], what: str, as_json: bool) -> None:
    if as_json:
        echo_json(made)
        return
    # As wide as its longest line, whatever the terminal: it is there to be copied.
    lines = [labelled("key", Text(made["key"], "bold")), labelled("publish", Text(made["ingest_url"]))]
    lines.append(Text("Nobody is told the key again; reset-key gives another one.", "dim"))
    width = max(line.cell_len for line in lines) + 4
    panel = Panel(Group(*lines), title=f"{made['name']} {what}", box=box.HORIZONTALS, width=width)
    Console(highlight=False, width=width).print(panel)
    Console(highlight=False).print(stream_details(made), soft_wrap=True)


async def _create(base_url: str, wanted: Mapping[str, Any], idempotency_key: str | None) -> dict[str, Any]:
    async with asking(base_url) as control:
        return await control.create_stream(wanted, idempotency_key)


async def _update(
    base_url: str,
    name: str,
    changes: dict[str, Any],
    labels: Mapping[str, str],
    unlabel: tuple[str, ...],
    no_targets: bool,
) -> dict[str, Any]:
    async with asking(base_url, name) as control:
        status = await control.stream(name)
        if labels or unlabel:
            kept = {key: value for key, value in status["labels"].items() if key not in unlabel}
            changes = {**changes, "labels": {**kept, **labels}}
        given = {target["sink"] for target in changes.get("targets", [])}
        lost = [target["sink"] for target in status["targets"] if target["sink"] not in given]
        if "targets" in changes and lost and not no_targets:
            raise IngestdError(
                f"the targets of {', '.join(lost)} would be lost: give --target for each that is to stay, "
                "or --no-targets to forget the others"
            )
        return await control.change_stream(name, changes)


async def _reset_key(base_url: str, name: str) -> dict[str, Any]:
    async with asking(base_url, name) as control:
        return await control.steer(name, "reset-key")


COMMANDS = (create, update, reset_key)
