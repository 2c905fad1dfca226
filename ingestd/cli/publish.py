"""``ingestd publish``: a file or the test card to a daemon, as a browser would send it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import click
import trio
from attrs import frozen
from rich.console import Console

from ingestd.cli.common import EXIT_FAILED, config_option
from ingestd.cli.connect import config_or_defaults, reachable, run
from ingestd.cli.progress import Meter, open_meter
from ingestd.cli.stopping import Stop
from ingestd.cli.wording import ending, size, without_key
from ingestd.client.publisher import Closed, ConnectionFailed
from ingestd.client.publisher import publish as push
from ingestd.client.recorded import index, recorded_chunks
from ingestd.config import FfmpegConfig
from ingestd.errors import IngestdError, MediaError
from ingestd.names import KEY, KEY_EXPECTED

#: Seconds of media up to a chunk's end, and the chunk.
Timed = AsyncGenerator[tuple[float, bytes], None]


@frozen(slots=True)
class What:
    """What to publish: a *file*, or the test card that *ffmpeg* draws."""

    file: Path | None
    ffmpeg: FfmpegConfig
    speed: float
    loop: bool
    seconds: float | None


@click.command
@config_option
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--test-card", is_flag=True, help="Publish a moving, beeping test card instead of a file.")
@click.option("--url", envvar="INGESTD_PUBLISH_URL", metavar="URL", help="Where to, with the key at its end.")
@click.option("--key", envvar="INGESTD_KEY", metavar="KEY", help="The stream's key, instead of --url.")
@click.option("--speed", type=click.FloatRange(min=0), default=1.0, show_default=True,
              help="Of a file: 2 is twice as fast as it was recorded, 0 as fast as it is taken.")  # fmt: skip
@click.option("--loop", is_flag=True, help="Begin a file anew at its end, until Ctrl-C.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so much media.")
def publish(
    config_path: Path,
    file: Path | None,
    test_card: bool,
    url: str | None,
    key: str | None,
    speed: float,
    loop: bool,
    seconds: float | None,
) -> None:
    """Push FILE (WebM or Matroska) or the test card to a daemon, in real time.

    The bytes go out as a browser's MediaRecorder sends them: in chunks of 250 ms that end inside an
    element. Ctrl-C ends the publication in order.

    \b
    Where to, one of:
      --url ws://HOST:8081/stream/live/KEY   (or $INGESTD_PUBLISH_URL)
      --key KEY                              (or $INGESTD_KEY), to [ingest] bind of --config

    A key in the environment is seen by fewer eyes than one on the command line. It is never printed.

    \b
    Exit status: 0 all was sent, or Ctrl-C; 1 refused, cut off or unreadable; 2 wrong usage.
    """  # noqa: D301  click wants the character itself
    if (file is None) is not test_card:
        raise click.UsageError("give either a FILE or --test-card")
    if test_card and (loop or speed != 1.0):
        raise click.UsageError("--speed and --loop are for files: a test card is drawn as it is sent")
    target = _target(url, key, config_path)
    ffmpeg = config_or_defaults(config_path).ffmpeg if test_card and not url else FfmpegConfig()
    console = Console(highlight=False)
    name = file.name if file else "a test card"
    console.print(f"publishing {name} to {without_key(target)}", soft_wrap=True, markup=False)
    closed: Closed = run(_publish, target, What(file, ffmpeg, speed, loop, seconds), console)
    sent = f"sent {size(closed.bytes)} in {closed.chunks} chunks"
    if not closed.complete:
        click.echo(f"Error: {ending(closed)}; {sent}", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)
    console.print(f"done: {sent}", soft_wrap=True)


def _target(url: str | None, key: str | None, config_path: Path) -> str:
    """The URL to push to; never part of a message, because it ends with the key."""
    if url is None and key is None:
        raise click.UsageError(
            "where to? Give --url ws://HOST:8081/stream/live/KEY, or the stream's key with --key or "
            "$INGESTD_KEY. (ingestd.toml alone does not tell: it may hold many keys)"
        )
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or not parts.path.strip("/"):
            raise click.BadParameter("expected a URL like ws://HOST:8081/stream/live/KEY", param_hint="--url")
        return url
    if not KEY.fullmatch(key or ""):
        raise click.BadParameter(KEY_EXPECTED, param_hint="--key")
    bind = reachable(config_or_defaults(config_path).ingest.bind, "[ingest] bind")
    return f"ws://{bind}/stream/live/{key}"


async def _publish(target: str, what: What, console: Console) -> Closed:
    stop = Stop()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop.listen, nursery.cancel_scope.cancel)
        total, timed = await _open(what)
        with open_meter(console, total) as meter:
            async with aclosing(_chunks(stop.until(timed), meter)) as chunks:
                try:
                    closed = await push(target, chunks)
                except ConnectionFailed as error:
                    raise IngestdError(f"cannot publish to {without_key(target)}: {error}") from None
        nursery.cancel_scope.cancel()
        return closed
    raise IngestdError("cut short: the end was not waited for")


async def _open(what: What) -> tuple[float | None, Timed]:
    """How many seconds there will be, if that is known, and the chunks."""
    if what.file is None:
        from ingestd.live.capabilities import find_ffmpeg  # a file needs no FFmpeg

        return what.seconds, _test_card((await find_ffmpeg(what.ffmpeg)).path, what.seconds)
    try:
        recorded = await trio.to_thread.run_sync(index, what.file)
    except MediaError as error:
        raise IngestdError(
            f"{what.file}: {error}. Another format is made WebM by: ffmpeg -i {what.file.name} out.webm"
        ) from None
    total = what.seconds if what.loop else min(recorded.duration, what.seconds or recorded.duration)
    return total, recorded_chunks(recorded, speed=what.speed, loop=what.loop, seconds=what.seconds)


async def _test_card(ffmpeg: str, seconds: float | None) -> Timed:
    from ingestd.testcard import test_card_chunks

    async with aclosing(test_card_chunks(ffmpeg, seconds=seconds)) as card:
        start = None
        async for chunk in card:
            start = trio.current_time() if start is None else start
            yield trio.current_time() - start, chunk


async def _chunks(timed: Timed, meter: Meter) -> AsyncGenerator[bytes, None]:
    """The chunks alone; *meter* hears of each when it was taken."""
    async with aclosing(timed):
        async for at, chunk in timed:
            yield chunk
            meter(at, len(chunk))
