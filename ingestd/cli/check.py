"""``ingestd check``: is the configuration right, and what will be run."""

from __future__ import annotations

import shlex
from pathlib import Path

import attrs
import click
import trio
from rich.console import Console
from rich.text import Text

from ingestd.cli.common import EXIT_FAILED, config_option, load_config
from ingestd.config import Config, Pipeline
from ingestd.errors import AttemptFailed, IngestdError
from ingestd.live.batch import Configuration
from ingestd.live.capabilities import Ffmpeg, FfmpegMissing, find_ffmpeg
from ingestd.live.plan import plan
from ingestd.live.retention import place_of
from ingestd.media.ffmpeg import encoder_args, writer_args
from ingestd.media.ffmpeg_output import MASK, masked
from ingestd.media.frames import Kind, Track
from ingestd.sinks.base import Sink
from ingestd.sinks.file import FileSink
from ingestd.sinks.plugins import ask
from ingestd.sinks.push import PushSink

#: What a browser sends when it is asked for nothing else, and what the encoder makes of it.
_SOURCE = (
    Track(number=1, kind=Kind.VIDEO, codec="vp8"),
    Track(number=2, kind=Kind.AUDIO, codec="opus"),
)
_PROGRAM = (
    Track(number=1, kind=Kind.VIDEO, codec="h264"),
    Track(number=2, kind=Kind.AUDIO, codec="aac"),
)
_SESSION = "SESSION"


@click.command
@config_option
@click.option("-q", "--quiet", is_flag=True, help="Say nothing unless something is wrong.")
def check(config_path: Path, quiet: bool) -> None:
    """Find mistakes in the configuration, and show what would run.

    Reads ingestd.toml and every pipeline, and reports all problems at once (exit status 2). If
    there is none, looks for an FFmpeg that can do the work (exit status 1 without one), and prints
    each pipeline's FFmpeg commands as the daemon starts them for a browser's VP8 and Opus; keys and
    passwords show as ***. No stream is started, nothing is written.
    """
    config = load_config(config_path)
    try:
        ffmpeg = trio.run(find_ffmpeg, config.ffmpeg)
    except FfmpegMissing as error:
        click.echo(str(error), err=True)
        raise click.exceptions.Exit(EXIT_FAILED) from None
    if quiet:
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(_summary(config, ffmpeg))
    for pipeline in config.pipelines.values():
        console.print()
        for line in _pipeline(config, pipeline, ffmpeg.path):
            console.print(line)


def _summary(config: Config, ffmpeg: Ffmpeg) -> Text:
    streams = [f"{stream.name} → {stream.pipeline}" for stream in config.streams.values()]
    rows = (
        ("ingest", f"ws://{config.ingest.bind}/stream/live/KEY"),
        ("control", f"http://{config.control.bind}/"),
        ("state", str(config.storage.state_dir)),
        ("ffmpeg", f"{ffmpeg.version}, {ffmpeg.path}"),
        ("streams", ", ".join(streams) or "none here"),
    )
    text = Text.assemble(("OK", "bold green"), f"  {config.path}")
    for name, value in rows:
        text.append(f"\n  {name:<10} {value}")
    return text


def _pipeline(config: Config, pipeline: Pipeline, exe: str) -> list[Text]:
    users = [stream.name for stream in config.streams.values() if stream.pipeline == pipeline.id]
    used = f"stream {', '.join(users)}" if users else "no stream here uses it"
    lines = [Text.assemble((f"pipeline {pipeline.id}", "bold"), f"  ({used})")]
    tracks = _SOURCE
    if pipeline.video.codec == "copy":
        tracks = _PROGRAM
        lines.append(
            _line("encoder", "none: the source must be H.264 and AAC already, if the sinks want that")
        )
    elif plan(pipeline, Configuration(tracks=_SOURCE)).encodes:
        tracks = _PROGRAM
        always = pipeline.video.codec == "h264"
        lines.append(_line("encoder", "always" if always else "unless the sinks take the source as it is"))
        threads = config.ffmpeg.threads
        lines.append(_command(encoder_args(exe, pipeline.video, pipeline.audio, _SOURCE, threads=threads)))
    else:
        lines.append(_line("encoder", "none: the sinks take the source as it is"))
    for sink in pipeline.sinks:
        lines += _sink(config, pipeline.id, sink, users[0] if users else "STREAM", tracks, exe)
    return lines


def _sink(
    config: Config, pipeline: str, sink: Sink, stream: str, tracks: tuple[Track, ...], exe: str
) -> list[Text]:
    place = place_of(config.storage.state_dir, stream, pipeline, _SESSION)
    title, note = f"sink {sink.name}", ""
    try:
        try:
            output = ask(sink, lambda: sink.output(place, tracks))
        except AttemptFailed as error:
            if not isinstance(sink, PushSink):
                raise
            note = f"; cannot start yet: {error}"
            output = attrs.evolve(sink, key=2 * MASK, key_file="").output(place, tracks)
    except IngestdError as error:
        return [_line(title, f"{sink.type}; cannot start: {error}", style="yellow")]
    if output is None:
        if not isinstance(sink, FileSink):
            return [_line(title, f"{sink.type}; cannot start: it names no output for FFmpeg", style="yellow")]
        return [_line(title, f"{sink.type}, written by the daemon in {place.recordings}")]
    args = masked(writer_args(exe, output.args, output.protocols), output.secrets)
    return [_line(title, sink.type + note, style="yellow" if note else "default"), _command(args)]


def _line(title: str, text: str, style: str = "default") -> Text:
    return Text.assemble(("  " + title.ljust(16), "cyan"), ("  " + text, style))


def _command(args: list[str]) -> Text:
    return Text("    " + shlex.join(args))
