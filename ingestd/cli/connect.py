"""What the commands that talk to a daemon share: where it is, and failures as people see them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console, RenderableType

from ingestd.address import Address
from ingestd.cli.common import load_config
from ingestd.client.api import Control, UnknownStream
from ingestd.config import Config
from ingestd.errors import IngestdError
from ingestd.structure import did_you_mean

#: So wide is a table where no terminal bounds it: nothing is cut off for scripts that read it anyway.
_WIDE = 250

F = TypeVar("F", bound=Callable[..., Any])


def api_option(command: F) -> F:
    """Adds ``--url URL`` of the control listener; the command gets it as *url*, or None."""
    return click.option(
        "--url",
        metavar="URL",
        help="The daemon's control address. Default: [control] bind of the configuration.",
    )(command)


def json_option(command: F) -> F:
    """Adds ``--json``; the command gets it as *as_json*."""
    return click.option("--json", "as_json", is_flag=True, help="The API's JSON, for scripts.")(command)


def echo_json(told: Any) -> None:
    """What the API told, on stdout."""
    click.echo(json.dumps(told, indent=2))


def lines_option(command: F) -> F:
    """Adds ``--lines``; the command gets it as *limit*."""
    return click.option(
        "-n", "--lines", "limit", type=click.IntRange(1, 100_000), default=50, show_default=True,
        help="How many at most, the last ones first.",
    )(command)  # fmt: skip


def yes_option(command: F) -> F:
    """Adds ``--yes``, for what asks before it deletes; the command gets it as *yes*."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask; for scripts.")(command)


def sure(question: str) -> None:
    """Ask *question* before something is deleted. Raises `click.ClickException` unless it is to be."""
    try:
        answer = click.confirm(question, err=True)
    except click.Abort:
        raise click.ClickException("nothing was deleted; --yes does not ask") from None
    if not answer:
        raise click.ClickException("nothing was deleted")


def print_rows(rows: RenderableType, page: Mapping[str, Any]) -> None:
    """A table of *page*, as wide as the terminal; on stderr, that there are more."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    console.print(rows)
    if page.get("next"):
        click.echo("There are more: --lines says how many to show.", err=True)


def api_url(url: str | None, config_path: Path) -> str:
    """The control API's base URL: *url*, or from the configuration, or where a daemon is by default."""
    if url is None:
        return f"http://{reachable(config_or_defaults(config_path).control.bind, '[control] bind')}"
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("expected a URL like http://127.0.0.1:8080", param_hint="--url")
    return url.rstrip("/")


def config_or_defaults(path: Path) -> Config:
    """The configuration in *path*; the defaults if nobody named one and there is none here."""
    source = click.get_current_context().get_parameter_source("config_path")
    if source is click.core.ParameterSource.DEFAULT and not path.exists():
        return Config(path=path.absolute())
    return load_config(path)


def reachable(address: Address, key: str) -> Address:
    """Where a client on this machine finds a listener on *address*, which the configuration has in *key*."""
    if address.port == 0:
        raise click.UsageError(f"{key} takes any free port: give --url with the one in the daemon's log")
    return address.near


@asynccontextmanager
async def asking(base_url: str, name: str | None = None, also: Iterable[str] = ()) -> AsyncIterator[Control]:
    """The API at *base_url*. If the block finds no stream *name*, the error tells the nearest there is.

    *also* are other words that could have been meant.
    """
    async with Control(base_url) as control:
        try:
            yield control
        except UnknownStream as error:
            names = [status["name"] for status in (await control.streams())["streams"]]
            shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
            hint = did_you_mean(name or "", [*names, *also]) or f". It has: {shown or 'none'}"
            raise IngestdError(f"{error}{hint}") from None
