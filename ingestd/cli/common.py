"""What the commands share: the ``--config`` option, and errors as people see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from ingestd.config import Config
from ingestd.errors import ConfigError, IngestdError, leaves
from ingestd.units import UnitError

F = TypeVar("F", bound=Callable[..., Any])

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
"""As shells have it for Ctrl-C."""


def quantity(parse: Callable[[str], float]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """The callback of an option with a unit, read by a ``parse_*`` of `ingestd.units`."""

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
        try:
            return None if value is None else parse(value)
        except UnitError as error:
            raise click.BadParameter(str(error), context, parameter) from None

    return read


def config_option(command: F) -> F:
    """Adds ``--config PATH`` (or ``$INGESTD_CONFIG``); the command gets it as *config_path*."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("ingestd.toml"),
        envvar="INGESTD_CONFIG",
        show_default=True,
        show_envvar=True,
        help="The configuration; its pipelines are found from there.",
    )(command)


def load_config(path: Path) -> Config:
    """The configuration in *path*; prints every problem to stderr and exits with 2 if there is one."""
    from ingestd.config_file import load
    from ingestd.sinks.plugins import sink_types

    try:
        return load(path, *sink_types())
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        count = len(error.problems)
        click.echo(f"{count} problem{'s' if count > 1 else ''} in the configuration", err=True)
        raise click.exceptions.Exit(EXIT_USAGE) from None


def run(main: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """``trio.run``; failures that have a name end the command with their text and exit status 1."""
    try:
        return trio.run(main, *args)
    except Exception as error:  # not except*, which wraps what is raised in it in a group
        errors = leaves(error)
        if not all(isinstance(each, IngestdError | OSError) for each in errors):
            raise
        hints = dict.fromkeys(each.hint for each in errors if isinstance(each, IngestdError) and each.hint)
        text = "\n".join(["; ".join(str(each) for each in errors), *hints])
        raise click.ClickException(text) from None
