"""``ingestd token``: makes tokens for the HTTP API, and checks the file that has their hashes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from ingestd.auth.identity import SCOPES
from ingestd.auth.token_file import read_tokens
from ingestd.auth.tokens import (
    TokenLine,
    WrongLine,
    digest_of,
    find,
    new_token,
    parse_file,
    parse_line,
    rfc3339,
)
from ingestd.cli.common import EXIT_FAILED, config_option, load_config, quantity
from ingestd.credentials import CredentialError
from ingestd.units import parse_duration

_MODE = 0o600


@click.group
def token() -> None:
    """Make tokens for the HTTP API, and check the file of them.

    A file of tokens ([auth] tokens_file) holds one line a token, with its SHA-256; the token itself is
    shown once, when it is made. Take a line out of the file, and the token is good no more.
    """


@token.command
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="Each implies those before.",
)
@click.option(
    "--expires", metavar="DURATION", callback=quantity(parse_duration), help='After it, like "90d".'
)
@click.option(
    "--to", "path", type=click.Path(path_type=Path, dir_okay=False), help="Append the line to this file."
)
def new(name: str, scopes: tuple[str, ...], expires: float | None, path: Path | None) -> None:
    """Make a token for NAME, and print it, this once.

    The line for the file goes to the file of --to, which is made for this user only, or else to stderr.
    """
    made = new_token()
    try:
        line = parse_line(f"{name}:{','.join(sorted(set(scopes)))}:{digest_of(made).hex()}")
        if expires is not None:
            line = parse_line(f"{line}:{rfc3339(time.time() + expires)}")
    except (WrongLine, OverflowError, ValueError, OSError) as error:
        raise click.BadParameter(str(error), param_hint="NAME or --expires") from None
    if path is None:
        click.echo(f"For the file of tokens:\n{line}", err=True)
    else:
        _append(path, line)
        click.echo(f"{path} has it; the token itself is kept nowhere:", err=True)
    click.echo(made)


@token.command
@config_option
@click.argument("path", required=False, type=click.Path(path_type=Path, dir_okay=False))
def check(config_path: Path, path: Path | None) -> None:
    """Show the tokens of a file, by default [auth] tokens_file, and what is wrong in it.

    With a token in $INGESTD_TOKEN, say whose it is. Exit status 1 when a line, or that token, is no good.
    """
    spec = str(path) if path is not None else load_config(config_path).auth.tokens_file
    if not spec:
        raise click.UsageError("which file? [auth] tokens_file names none")
    try:
        lines, wrong = parse_file(read_tokens(spec))
    except CredentialError as error:
        raise click.ClickException(str(error)) from None
    now = time.time()
    table = Table("name", "scopes", "expires")
    for line in lines:
        over = line.expires is not None and line.expires <= now
        when = "never" if line.expires is None else rfc3339(line.expires)
        table.add_row(line.name, ", ".join(line.identity().all_scopes), f"{when} (over)" if over else when)
    Console(highlight=False).print(table)
    for number, expected in wrong:
        click.echo(f"{spec}: line {number}: {expected}", err=True)
    given = os.environ.get("INGESTD_TOKEN")
    owner = find(lines, given, now) if given else None
    if given:
        click.echo(
            f"$INGESTD_TOKEN is {owner.name}'s" if owner else "$INGESTD_TOKEN is none of them", err=True
        )
    if wrong or (given and owner is None):
        raise click.exceptions.Exit(EXIT_FAILED)


def _append(path: Path, line: TokenLine) -> None:
    """Add *line* to *path*, whose names stay unique. Raises `click.ClickException`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _MODE)
        with os.fdopen(descriptor, "r+b") as file:
            text = file.read().decode("utf-8", "replace")
            if any(line.name == other.name for other in parse_file(text)[0]):
                raise click.ClickException(
                    f'{path} has a token called "{line.name}": take it out, or name this other'
                )
            file.write(("\n" if text and not text.endswith("\n") else "").encode() + f"{line}\n".encode())
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
