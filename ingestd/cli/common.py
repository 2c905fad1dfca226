"""What the commands share: the ``--config`` option, and configuration errors as people see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ingestd.config import Config
from ingestd.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

EXIT_FAILED = 1
EXIT_USAGE = 2


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
