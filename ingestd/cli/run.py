"""``ingestd run``: the daemon in the foreground, as systemd starts it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ingestd import logs
from ingestd.cli.common import config_option, load_config
from ingestd.cli.common import run as call
from ingestd.daemon import serve


@click.command
@config_option
def run(config_path: Path) -> None:
    """Run the daemon until SIGTERM or Ctrl-C, which end every live stream in order.

    Publishers connect to [ingest] bind, applications and viewers to [control] bind. Logs go to
    stderr, as JSON lines unless it is a terminal.
    """
    config = load_config(config_path)
    ring = logs.configure(config.log)
    call(partial(serve, config, ring))
