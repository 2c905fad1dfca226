"""The command line. Each command is one file, imported only when it is called for."""

from __future__ import annotations

import importlib
from typing import Any

import click

from ingestd import __version__

#: Command → where it is, and the line that ``ingestd --help`` shows (so that help imports nothing).
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("ingestd.cli.init:init", "Write a start configuration, with every key explained."),
    "check": ("ingestd.cli.check:check", "Find mistakes in the configuration; show the FFmpeg commands."),
    "doctor": ("ingestd.cli.doctor:doctor", "Find what on this machine could keep the daemon from working."),
    "token": ("ingestd.cli.token:token", "Make tokens for the HTTP API, and check the file of them."),
    "run": ("ingestd.cli.run:run", "Run the daemon."),
    "demo": ("ingestd.cli.demo:demo", "Run the daemon with a test card, and show what it does."),
    "publish": ("ingestd.cli.publish:publish", "Push a test card or a recording, as a browser would."),
    "streams": ("ingestd.cli.streams:streams", "List the streams of a running daemon."),
    "webhooks": ("ingestd.cli.webhooks:webhooks", "Show who is told what happens; send again."),
    "status": ("ingestd.cli.status:status", "Show what a running daemon does, sink by sink."),
    "backup": ("ingestd.cli.backup:backup", "Copy the database to a file, also while the daemon runs."),
    "restore": ("ingestd.cli.backup:restore", "Put such a copy in the database's place."),
    "logs": ("ingestd.cli.logs:logs", "Show what a running daemon has logged."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which one meets them."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command *name*, imported now."""
        if name not in COMMANDS:
            return super().get_command(ctx, name)
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the nearest command when there is none of that name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from ingestd.structure import did_you_mean  # only needed here

            hint = did_you_mean(args[0], COMMANDS) or "."
            raise click.UsageError(f'There is no command "{args[0]}"{hint}', ctx=error.ctx or ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands, without importing them."""
        rows: list[tuple[str, str]] = [(name, text) for name, (_, text) in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=LazyGroup, context_settings=_SETTINGS)
@click.version_option(__version__, "-V", "--version", prog_name="ingestd")
def main() -> None:
    """Take live video from browsers and turn it into recordings, HLS and RTMPS pushes.

    \b
    First steps:
      ingestd init      writes ingestd.toml and pipelines/ here
      ingestd check     says whether they are right
      ingestd doctor    says whether this machine can do it
      ingestd run       starts the daemon
    Then push to ws://127.0.0.1:8081/stream/live/KEY, and watch at http://127.0.0.1:8080/.

    \b
    Exit status: 0 good, 1 failed, 2 wrong usage or wrong configuration.
    "ingestd COMMAND -h" explains a command.
    """  # noqa: D301  \b is click's mark for lines that stay as they are
