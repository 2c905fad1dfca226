"""``ingestd logs``: what a running daemon has logged last, and what it logs now."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import trio
from attrs import define, field
from rich.console import Console
from rich.text import Text

from ingestd.cli.common import config_option, run
from ingestd.cli.connect import api_option, api_url
from ingestd.cli.stopping import Stop
from ingestd.client.api import ApiError, Control, DaemonUnreachable, UnknownStream
from ingestd.errors import IngestdError
from ingestd.log_ring import LEVELS
from ingestd.structure import did_you_mean

_REFRESH = 0.5
_PAGE = 1000
_STYLES = {"debug": "dim", "info": "green", "warning": "yellow", "error": "bold red", "critical": "bold red"}
#: Of every event, and shown in front; the number is for programs.
_FRONT = ("number", "timestamp", "level", "event", "exception")


@click.command
@click.argument("stream", required=False)
@config_option
@api_option
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C, also when the daemon is restarted.")
@click.option("-l", "--level", type=click.Choice(LEVELS), default=LEVELS[0], help="Only these and worse.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 10_000), default=100, show_default=True, help="How many at most."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def logs(
    stream: str | None,
    config_path: Path,
    url: str | None,
    follow: bool,
    level: str,
    lines: int,
    as_json: bool,
) -> None:
    """Show the last log events of a running daemon, or only those of STREAM.

    The daemon keeps some in memory ([log] keep) of the level that it logs ([log] level); its complete log
    goes to stderr. Events that are gone before they were shown are counted on stderr. Exit status 1 if
    no daemon answers, or it has no such stream.
    """
    reader = Reader(api_url(url, config_path), stream, level)
    printer = _Printer(as_json, Console(highlight=False, soft_wrap=True))
    if follow:
        if not run(_follow, reader, lines, printer):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))  # which click ends quietly with
    else:
        printer.print(run(reader.last, lines))


@define(eq=False)
class Reader:
    """Reads the events of the daemon at *base_url*: each once, in order."""

    base_url: str
    stream: str | None
    level: str
    _run: str | None = None
    _after: int = 0
    _waiting: bool = field(default=False, init=False)

    async def last(self, lines: int) -> list[dict[str, Any]]:
        """The newest *lines* events.

        Raises `DaemonUnreachable`, `ApiError`, and `IngestdError` with the names there are for no stream.
        """
        async with Control(self.base_url) as control:
            return await self._last(control, lines)

    async def _last(self, control: Control, lines: int) -> list[dict[str, Any]]:
        try:
            page = await control.logs(limit=lines, level=self.level, stream=self.stream)
        except UnknownStream as error:
            names = [status["name"] for status in (await control.streams())["streams"]]
            hint = did_you_mean(self.stream or "", names) or f". It has: {', '.join(names) or 'none'}"
            raise IngestdError(f"{error}{hint}") from None
        self._run, self._after = page["run"], page["next"]
        events: list[dict[str, Any]] = page["events"]
        return events

    async def follow(self, lines: int) -> AsyncGenerator[list[dict[str, Any]] | str, None]:
        """As `last`, and then all that come, without end: lists of events, and notes for a person."""
        async with Control(self.base_url) as control:
            yield await self._last(control, lines)
            while True:
                try:
                    page = await control.logs(
                        after=self._after, limit=_PAGE, level=self.level, stream=self.stream
                    )
                except (DaemonUnreachable, ApiError) as error:
                    if not self._waiting:
                        yield f"{error}; waiting for it"
                    self._waiting = True
                    await trio.sleep(_REFRESH)
                    continue
                self._waiting = False
                if page["run"] != self._run:
                    self._run, self._after = page["run"], 0
                    yield "the daemon was restarted"
                    continue
                if page["lost"]:
                    yield f"{page['lost']} events (of all streams) were gone before they could be shown"
                self._after = page["next"]
                if page["events"]:
                    yield page["events"]
                if len(page["events"]) < _PAGE:
                    await trio.sleep(_REFRESH)


@define(eq=False)
class _Printer:
    as_json: bool
    console: Console

    def show(self, event: dict[str, Any]) -> None:
        """One event on stdout."""
        if self.as_json:
            click.echo(json.dumps(event))
        elif self.console.is_terminal:
            self.console.print(event_line(event))
        else:
            click.echo(event_line(event).plain)

    def print(self, page: list[dict[str, Any]] | str) -> None:
        """Events, or a note that is none."""
        if isinstance(page, str):
            click.echo(f"-- {page}", err=True)
        else:
            for event in page:
                self.show(event)


async def _follow(reader: Reader, lines: int, printer: _Printer) -> bool:
    """Print until Ctrl-C (True), or until nobody reads what is printed (False)."""
    stop, read = Stop(), True
    async with trio.open_nursery() as nursery:
        await nursery.start(stop.listen, nursery.cancel_scope.cancel)
        async with aclosing(stop.until(reader.follow(lines))) as pages:
            try:
                async for page in pages:
                    printer.print(page)
            except BrokenPipeError:
                read = False
        nursery.cancel_scope.cancel()
    return read


def event_line(event: dict[str, Any]) -> Text:
    """An event for people: local time, level, name, values, and a traceback's last words.

    What peers have said stands in some of the values: nothing in them reaches the terminal as a command.
    """
    level = _value(event.get("level"))
    text = Text.assemble(
        (_clock(event.get("timestamp")), "dim"),
        " ",
        (f"{level:<8}", _STYLES.get(level, "")),
        (_value(event.get("event")), "bold"),
    )
    for key, value in event.items():
        if key not in _FRONT:
            text.append(f" {_value(key)}=", "cyan").append(_value(value))
    for error in event.get("exception") or ():
        if isinstance(error, dict):
            words = f"{error.get('exc_type')}: {error.get('exc_value')}"
            frames = error.get("frames") or [{}]
            place = f"{frames[-1].get('filename')}:{frames[-1].get('lineno')}"
            text.append(f"\n    {_value(words)} ({_value(place)})", "red")
    return text


def _clock(timestamp: object) -> str:
    try:
        return datetime.fromisoformat(str(timestamp)).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return _value(timestamp)


def _value(value: object) -> str:
    """*value* on one line, in quotes where it would not be read as one word."""
    if isinstance(value, str):
        plain = value.isprintable() and value and " " not in value and '"' not in value
        return value if plain else json.dumps(value, ensure_ascii=not value.isprintable())
    return json.dumps(value)
