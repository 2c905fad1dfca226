"""What the commands that make and change streams are given: labels, and targets whose keys stay in files."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ingestd.cli.common import quantity
from ingestd.units import parse_duration

F = TypeVar("F", bound=Callable[..., Any])

#: At Mux: the options, and what the API calls them.
_MUX = (
    click.option(
        "--mux-latency", "latency_mode", type=click.Choice(("standard", "reduced", "low")),
        help="How the live stream at Mux is made; not given, as [mux] has it.",
    ),
    click.option(
        "--mux-window", "reconnect_window", metavar="DURATION", callback=quantity(parse_duration),
        help='For how long Mux waits when nobody pushes, like "2m".',
    ),
    click.option(
        "--mux-playback", "playback_policy", type=click.Choice(("public", "signed")),
        help="Whether everybody may watch at Mux, or who has a JWT that is signed with a key of Mux's.",
    ),
)  # fmt: skip
_KEY = re.compile(r"[!-~]{1,1024}", re.ASCII)
_LONGEST_FILE = 4096
_OPTIONS = (
    click.option("--pipeline", metavar="ID", help="Which pipelines/ID.toml it runs through."),
    click.option("--title", metavar="TEXT", help="For people."),
    click.option(
        "--label", "labels", metavar="KEY=VALUE", multiple=True, help="Of your own; may be repeated."
    ),
    click.option(
        "--target", "keys", metavar="SINK=FILE", multiple=True,
        help='What sink SINK pushes with is the key in FILE, or on standard input for "-". May be '
        "repeated. Keys are no arguments: everybody on the machine sees those.",
    ),
    click.option(
        "--target-url", "urls", metavar="SINK=URL", multiple=True,
        help="Where it pushes to, if not to the URL of the pipeline. May be repeated. Takes a token of "
        'scope "admin".',
    ),
)  # fmt: skip


def about_options(command: F) -> F:
    """Adds what describes a stream; the command gets *title*, *pipeline*, *labels*, *keys*, *urls*."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def mux_options(command: F) -> F:
    """Adds how it is made at Mux; the command gets *latency_mode*, *reconnect_window*, *playback_policy*."""
    for option in reversed(_MUX):
        command = option(command)
    return command


def labels_of(given: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` as a dictionary. Raises `click.BadParameter`."""
    return dict(_pairs(given, "--label", "KEY=VALUE"))


def targets_of(keys: Sequence[str], urls: Sequence[str]) -> list[dict[str, str]]:
    """The targets as the API takes them, with the keys read. Raises `click.BadParameter`."""
    wheres = dict(_pairs(urls, "--target-url", "SINK=URL"))
    files = dict(_pairs(keys, "--target", "SINK=FILE"))
    if len(files) < len(keys):
        raise click.BadParameter("expected each sink once", param_hint="--target")
    if list(files.values()).count("-") > 1:
        raise click.BadParameter("standard input has one key only", param_hint="--target")
    if missing := [sink for sink in wheres if sink not in files]:
        raise click.BadParameter(
            f'"{missing[0]}" has no key: give --target {missing[0]}=FILE with it', param_hint="--target-url"
        )

    def where(sink: str) -> dict[str, str]:
        return {"url": wheres[sink]} if sink in wheres else {}

    return [
        {"sink": sink, "key": read_key(file, f"the file of {sink}"), **where(sink)}
        for sink, file in files.items()
    ]


def _pairs(given: Sequence[str], option: str, form: str) -> list[tuple[str, str]]:
    pairs = []
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals or (not value and option != "--label"):
            # It may be a key that was given in the wrong way: not repeated.
            raise click.BadParameter(f"expected {form}", param_hint=option)
        pairs.append((name, value))
    return pairs


def read_key(file: str, where: str, option: str = "--target", form: str = "SINK=FILE") -> str:
    """The key in *file*, or on standard input for ``-``. Raises `click.BadParameter`, without it."""
    if file == "-":
        text, where = sys.stdin.read(_LONGEST_FILE), "standard input"
    else:
        try:
            with Path(file).open(encoding="utf-8") as opened:
                text = opened.read(_LONGEST_FILE)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise click.BadParameter(
                f"{where} cannot be read: {why}. Expected {form}, where FILE has the key; the key itself "
                "is not to be an argument",
                param_hint=option,
            ) from None
    key = text.strip()
    if _KEY.fullmatch(key) is None:
        raise click.BadParameter(
            f"{where}: expected a key of 1 to 1024 visible ASCII characters, and nothing else",
            param_hint=option,
        )
    return key
