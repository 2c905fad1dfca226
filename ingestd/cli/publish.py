"""``ingestd publish``: a file, the test card or standard input to a daemon, as a browser would send it."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import click
import trio
from attrs import define, field, frozen
from rich.console import Console

from ingestd.cli.common import EXIT_FAILED, EXIT_INTERRUPTED, config_option, quantity, run
from ingestd.cli.connect import config_or_defaults
from ingestd.cli.events import Narrator
from ingestd.cli.material import STDIN, Material, Timed
from ingestd.cli.progress import Meter, Standing, open_meter
from ingestd.cli.stopping import Stop
from ingestd.cli.target import Target, target
from ingestd.cli.wording import counted, ending, size
from ingestd.client.connection import ConnectionFailed
from ingestd.client.messages import Pressure
from ingestd.client.outbox import Buffer
from ingestd.client.plain import Closed, publish_plain
from ingestd.client.publisher import Event, Lost, Published, Publisher
from ingestd.config import FfmpegConfig
from ingestd.errors import IngestdError
from ingestd.units import format_duration, parse_duration, parse_size

Result: TypeAlias = Published | Closed

_REFRESH = 0.25
_CLIENT = "ingestd publish"
_RESUMABLE_ONLY = ("buffer", "buffer_time", "when_full", "give_up_after", "ping_timeout")
_duration: dict[str, Any] = {"metavar": "TIME", "callback": quantity(parse_duration)}
_size: dict[str, Any] = {"metavar": "SIZE", "callback": quantity(parse_size)}


@frozen(slots=True)
class How:
    """How to publish; *plain* has no use for the others."""

    plain: bool
    buffer: Buffer
    give_up_after: float
    ping_timeout: float


@click.command
@config_option
@click.argument("file", required=False,
                type=click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True))  # fmt: skip
@click.option("--test-card", is_flag=True, help="Publish a moving, beeping test card instead of a file.")
@click.option(
    "--url", envvar="INGESTD_PUBLISH_URL", metavar="URL", help="Where to; the key may be at its end."
)
@click.option("--key", envvar="INGESTD_KEY", metavar="KEY", help="The stream's key.")
@click.option("--speed", type=click.FloatRange(min=0), default=1.0, show_default=True,
              help="Of a file: 2 is twice as fast as it was recorded, 0 as fast as it is taken.")  # fmt: skip
@click.option("--loop", is_flag=True, help="Begin a file anew at its end, until Ctrl-C.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so much media.")
@click.option("--buffer", **_size, default="32MiB", show_default=True,
              help="How much is kept until it is acknowledged.")  # fmt: skip
@click.option("--buffer-time", **_duration, help="Drop what is older, where --when-full is drop.")
@click.option("--when-full", type=click.Choice(["wait", "drop"]),
              help="When the buffer is full: let the source wait (default for FILE and -), or drop its "
              "oldest, up to a keyframe (default for --test-card).")  # fmt: skip
@click.option("--give-up-after", **_duration, default="5m", show_default=True,
              help="Without a connection that works; 0: at the first loss.")  # fmt: skip
@click.option("--ping-timeout", **_duration, default="10s", show_default=True,
              help="A silent connection is given up after so long, and made anew.")  # fmt: skip
@click.option("--plain", is_flag=True,
              help="Chunks without numbers over one connection, as a simple page sends them.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The result as JSON, for scripts; the rest to stderr.")
def publish(
    config_path: Path,
    file: Path | None,
    test_card: bool,
    url: str | None,
    key: str | None,
    as_json: bool,
    plain: bool,
    when_full: str | None,
    **options: Any,
) -> None:
    """Push FILE (WebM or Matroska), the test card, or standard input (-) to a daemon, in real time.

    The bytes go out as a browser's MediaRecorder sends them: in chunks of 250 ms that end inside an
    element. Standard input is sent as it comes: WebM, Matroska or fragmented MP4. What the daemon has not
    acknowledged is kept; when the connection breaks, it is made again and goes on where it was, none
    twice and none missing. Ctrl-C ends the publication in order.

    \b
    Where to, one of:
      --url ws://HOST:8081/stream/live/KEY   (or $INGESTD_PUBLISH_URL)
      --url ws://HOST:8081/stream/live --key KEY
      --key KEY                              (or $INGESTD_KEY), to [ingest] bind of --config

    A key in the environment is seen by fewer eyes than one on the command line. It is never printed.

    \b
    Exit status:
      0    all is acknowledged, and the daemon has ended in order (--plain: all was sent)
      1    failed: refused, gave up, or something is missing; the error says what and why
      2    wrong usage
      130  ended early by Ctrl-C or SIGTERM, in order: what was taken from the source until then
           is acknowledged
    """  # noqa: D301  click wants the character itself
    if (file is None) is not test_card:
        raise click.UsageError("give one of FILE, - (standard input) and --test-card")
    if (test_card or file == STDIN) and (options["loop"] or options["speed"] != 1.0):
        raise click.UsageError("--speed and --loop are for files: other sources have a pace of their own")
    if file == STDIN and sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal: pipe a WebM, Matroska or MP4 stream into it")
    if plain:
        _refuse(_RESUMABLE_ONLY, "--plain keeps nothing and does not reconnect")
    where = target(url, key, config_path)
    ffmpeg = config_or_defaults(config_path).ffmpeg if test_card and not url else FfmpegConfig()
    material = Material(file, ffmpeg, options["speed"], options["loop"], options["seconds"])
    drop = when_full == "drop" if when_full else material.live
    if options["buffer_time"] is not None and not drop:
        raise click.UsageError("--buffer-time is for --when-full drop: a source that waits loses nothing")
    buffer = Buffer(size=options["buffer"], seconds=options["buffer_time"], drop=drop)
    how = How(plain, buffer, options["give_up_after"], options["ping_timeout"])
    console = Console(highlight=False, stderr=as_json)
    console.print(f"publishing {material.name} to {where.shown}", soft_wrap=True, markup=False)
    publication = _Publication(where, material, how, console)
    result: Result = run(publication.run)
    if as_json:
        click.echo(json.dumps({**attrs.asdict(result), "interrupted": publication.interrupted}))
    raise click.exceptions.Exit(_conclude(result, how, publication, console))


def _refuse(names: tuple[str, ...], why: str) -> None:
    """A usage error for the first of the options *names* that was given."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.replace('_', '-')} has no use here: {why}")


def _conclude(result: Result, how: How, publication: _Publication, console: Console) -> int:
    """Say how it ended; the exit status."""
    if isinstance(result, Closed):
        there = f"sent {size(result.bytes)} in {counted(result.chunks, 'chunk')}"
        if result.complete:
            console.print(f"done: {there}", soft_wrap=True)
            return EXIT_INTERRUPTED if publication.interrupted else 0
        click.echo(f"Error: {ending(result.code, result.reason)}; {there}", err=True)
        return EXIT_FAILED
    there = f"acknowledged {size(result.bytes)} in {counted(result.chunks, 'chunk')}"
    if result.reconnects:
        there += f", over {counted(result.reconnects, 'reconnect')}"
    if result.complete or (publication.interrupted and result.code == 1000):
        console.print(f"done: {there}{_missing(result)}", soft_wrap=True)
        return EXIT_INTERRUPTED if publication.interrupted else 0
    why = ending(result.code, result.reason)
    if result.gave_up:
        why = f"gave up after {format_duration(how.give_up_after)} without a connection that works: {why}"
    elif result.code == 1000 and result.gaps:
        why = "the buffer was full while there was no way through (see --buffer)"
    click.echo(f"Error: {why}; {there}{_missing(result)}", err=True)
    return EXIT_FAILED


def _missing(result: Published) -> str:
    if not (result.missing_chunks or result.missing_bytes):
        return ""
    gaps = f", in {counted(result.gaps, 'gap')}" if result.gaps else ""
    return f"; missing {size(result.missing_bytes)} in {counted(result.missing_chunks, 'chunk')}{gaps}"


@define(eq=False)
class _Publication:
    """One run of the command, until the source has ended, Ctrl-C, or the daemon wants no more."""

    where: Target
    material: Material
    how: How
    console: Console
    _stop: Stop = field(factory=Stop)
    _narrator: Narrator = field(init=False)
    _at: float = 0.0
    _done: int = 0
    _pressed: bool = False

    def __attrs_post_init__(self) -> None:
        self._narrator = Narrator(self.console)

    @property
    def interrupted(self) -> bool:
        return self._stop.wanted.is_set()

    async def run(self) -> Result:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._stop.listen, nursery.cancel_scope.cancel)
            total, timed = await self.material.open()
            with open_meter(self.console, total) as meter:
                async with aclosing(self._chunks(self._stop.until(timed))) as chunks:
                    try:
                        result = await self._publish(chunks, meter, nursery)
                    except ConnectionFailed as error:
                        raise IngestdError(f"cannot publish to {self.where.shown}: {error}") from None
            nursery.cancel_scope.cancel()
            return result
        raise IngestdError("cut short: the end was not waited for")

    async def _chunks(self, timed: Timed) -> AsyncGenerator[bytes, None]:
        async with aclosing(timed):
            async for at, chunk in timed:
                self._at = at
                yield chunk

    async def _publish(
        self, chunks: AsyncGenerator[bytes, None], meter: Meter, nursery: trio.Nursery
    ) -> Result:
        how = self.how
        if how.plain:
            return await publish_plain(self.where.with_key, chunks, on_sent=partial(self._sent, meter))
        publisher = Publisher(
            self.where.url, self.where.key, client=_CLIENT, buffer=how.buffer,
            give_up_after=how.give_up_after, ping_timeout=how.ping_timeout, on_event=self._heard,
        )  # fmt: skip
        nursery.start_soon(self._show, publisher, meter)
        return await publisher.run(chunks)

    def _sent(self, meter: Meter, count: int) -> None:
        self._done += count
        meter(Standing(at=self._at, done=self._done))

    async def _show(self, publisher: Publisher, meter: Meter) -> None:
        while True:
            box = publisher.outbox
            meter(
                Standing(
                    at=self._at,
                    done=box.acknowledged.bytes,
                    buffered=box.buffered.bytes,
                    connected=publisher.connected,
                    reconnects=publisher.reconnects,
                    dropped=box.dropped.chunks,
                    ending=self.interrupted,
                )
            )
            if self.material.live:
                # A way that is too narrow is felt here first.
                clogged = box.buffered.bytes > self.how.buffer.size / 2
                self.material.rate.press(trio.current_time(), active=self._pressed or clogged)
                publisher.bitrate = self.material.rate.drawn
            await trio.sleep(_REFRESH)

    def _heard(self, event: Event) -> None:
        match event:
            case Pressure(active=active):
                self._pressed = active
            case Lost():
                self._pressed = False
        self._narrator.hear(event)
