"""``ingestd backup`` and ``ingestd restore``: the registry's database, to a file and back."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path

import click

from ingestd.cli.common import EXIT_FAILED, config_option, load_config
from ingestd.config import Config
from ingestd.database_url import sqlite_path, without_password
from ingestd.errors import IngestdError
from ingestd.registry.backup import back_up
from ingestd.registry.backup import restore as put_back
from ingestd.state_lock import state_lock


@click.command
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@click.option("-f", "--force", is_flag=True, help="Replace FILE if it is there.")
def backup(file: Path, config_path: Path, force: bool) -> None:
    """Copy the database to FILE, also while the daemon runs.

    FILE is one moment of the database, checked, and readable by you only. The keys in
    [database] secret_key_file are not in it: keep them elsewhere. Recordings and journals are files: back
    them up as such. With PostgreSQL, shows the command that does it (exit status 1).
    """
    config = load_config(config_path)
    path = _path(config, f"pg_dump --format=custom --file={shlex.quote(str(file))}")
    if file.exists() and not force:
        raise _failure(f"{file}: is there already; --force replaces it")
    try:
        back_up(path, file)
    except IngestdError as error:
        raise _failure(str(error)) from None
    click.echo(f"wrote {file} ({file.stat().st_size} bytes)")


@click.command
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
def restore(file: Path, config_path: Path) -> None:
    """Put FILE, which `ingestd backup` wrote, in the place of the database.

    The daemon must not be running. The database that was there is kept beside it. With PostgreSQL,
    shows the command that does it (exit status 1).
    """
    config = load_config(config_path)
    command = "pg_restore --clean --if-exists --no-owner --single-transaction"
    path = _path(config, command, shlex.quote(str(file)))
    state = config.storage.state_dir
    with ExitStack() as held:
        try:
            state.mkdir(parents=True, exist_ok=True, mode=0o750)
            held.enter_context(state_lock(state))
        except BlockingIOError:
            raise _failure(f"a daemon works in {state}: stop it first") from None
        except OSError as error:
            raise _failure(f"cannot write to {state}: {error.strerror}") from None
        try:
            kept = put_back(file, path)
        except IngestdError as error:
            raise _failure(str(error)) from None
    click.echo(f"restored {path}")
    if kept is not None:
        click.echo(f"the one before is {kept}")


def _path(config: Config, command: str, last: str = "") -> Path:
    """The SQLite file; for a server exits, having shown *command* with its URL."""
    path = sqlite_path(config.database.url, config.storage.state_dir)
    if path is None:
        url = shlex.quote(without_password(config.database.url))
        click.echo(
            f"the database is PostgreSQL; its own tool does it:\n  {command} --dbname={url} {last}", err=True
        )
        raise click.exceptions.Exit(EXIT_FAILED)
    return path


def _failure(text: str) -> click.ClickException:
    return click.ClickException(text)
