"""``ingestd doctor``: what on this machine could keep the daemon from doing its work."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import attrs
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingestd.cli.common import EXIT_FAILED, EXIT_USAGE, config_option, run
from ingestd.config_file import load
from ingestd.doctor import Finding, Verdict, examine
from ingestd.errors import ConfigError
from ingestd.sinks.plugins import sink_types

_MARKS = {
    Verdict.OK: Text("✓", "green"),
    Verdict.WARNING: Text("!", "bold yellow"),
    Verdict.FAILED: Text("✗", "bold red"),
}


@click.command
@config_option
@click.option("--targets", is_flag=True, help="Try to connect to where streams are pushed; nothing is sent.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for scripts.")
def doctor(config_path: Path, targets: bool, as_json: bool) -> None:
    """Look for what could keep the daemon from doing its work, and say how to mend it.

    Looks at the configuration, FFmpeg, the state directory and its disk, the ports, the clock and the
    limit of open files. It disturbs no daemon that runs. Run it as the daemon's user. Exit status:
    0 good (there may be warnings), 1 something failed, 2 wrong configuration.
    """
    try:
        config = load(config_path, *sink_types())
    except ConfigError as error:
        mend = "mend it; the keys are explained in the ingestd.toml that `ingestd init` writes"
        _report([Finding("configuration", Verdict.FAILED, text, mend) for text in error.problems], as_json)
        raise click.exceptions.Exit(EXIT_USAGE) from None
    count = len(config.streams)
    findings = [
        Finding("configuration", Verdict.OK, f"{config.path}, {count} stream{'' if count == 1 else 's'}")
    ]
    findings += run(partial(examine, config, contact=targets))
    _report(findings, as_json)
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        raise click.exceptions.Exit(EXIT_FAILED)


def _report(findings: list[Finding], as_json: bool) -> None:
    good = all(finding.verdict is not Verdict.FAILED for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": good, "findings": [attrs.asdict(f) for f in findings]}, indent=2))
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        words = Text(finding.detail)
        if finding.mend:
            words.append(f"\n→ {finding.mend}", "cyan")
        table.add_row(_MARKS[finding.verdict], Text(finding.check, "bold"), words)
    Console(highlight=False).print(table)
