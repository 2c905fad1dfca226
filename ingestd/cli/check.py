"""``ingestd check``: is the configuration right, and what will be run."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from ingestd.cli.common import config_option, load_config
from ingestd.config import Config, Pipeline
from ingestd.errors import IngestdError
from ingestd.media.frames import Kind, Track
from ingestd.sinks.base import Place, Sink

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
    there is none, prints each pipeline's FFmpeg commands as the daemon would start them; keys and
    passwords show as ***. Nothing is started and nothing is written.
    """
    config = load_config(config_path)
    if quiet:
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(_summary(config))
    for pipeline in config.pipelines.values():
        console.print()
        for line in _plan(config, pipeline):
            console.print(line)


def _summary(config: Config) -> Text:
    text = Text("OK", style="bold green")
    text.append(f"  {config.path}\n", style="default")
    text.append(f"  ingest     ws://{config.ingest.bind}/stream/live/KEY\n", style="default")
    text.append(f"  control    http://{config.control.bind}/\n", style="default")
    text.append(f"  state      {config.storage.state_dir}\n", style="default")
    streams = [f"{stream.name} → {stream.pipeline}" for stream in config.streams.values()]
    text.append(f"  streams    {', '.join(streams) or 'none here'}", style="default")
    return text


def _plan(config: Config, pipeline: Pipeline) -> list[Text]:
    users = [stream.name for stream in config.streams.values() if stream.pipeline == pipeline.id]
    title = Text(f"pipeline {pipeline.id}", style="bold")
    title.append(f"  ({'stream ' + ', '.join(users) if users else 'no stream here uses it'})", style="dim")
    lines = [title, *_encoder(config, pipeline)]
    for sink in pipeline.sinks:
        lines += _sink(config, sink, users[0] if users else "STREAM")
    return lines


def _encoder(config: Config, pipeline: Pipeline) -> list[Text]:
    from ingestd.media.ffmpeg import encoder_args

    if pipeline.video.codec == "copy":
        return [_line("encoder", 'none: the source is passed on as it is (codec = "copy")')]
    note = "for a source that the sinks do not take as it is" if pipeline.video.codec == "auto" else "always"
    args = encoder_args(
        _executable(config), pipeline.video, pipeline.audio, _SOURCE, threads=config.ffmpeg.threads
    )
    return [_line("encoder", note), _command(args)]


def _sink(config: Config, sink: Sink, stream: str) -> list[Text]:
    from ingestd.media.ffmpeg import masked, writer_args

    place = Place(
        stream=stream,
        recordings=config.storage.state_dir / "recordings" / stream,
        hls=config.storage.state_dir / "hls" / stream,
        stem=_SESSION,
    )
    title = f"sink {sink.name}"
    try:
        output = sink.output(place, _PROGRAM)
    except IngestdError as error:
        return [_line(title, f"{sink.type}; cannot start yet: {error}", style="yellow")]
    if output is None:
        return [_line(title, f"{sink.type}, written by the daemon in {place.recordings}")]
    args = masked(writer_args(_executable(config), output.args, output.protocols), output.secrets)
    return [_line(title, sink.type), _command(args)]


def _executable(config: Config) -> str:
    return config.ffmpeg.path or shutil.which("ffmpeg") or "ffmpeg"


def _line(title: str, text: str, style: str = "default") -> Text:
    return Text.assemble(("  " + title.ljust(16), "cyan"), ("  " + text, style))


def _command(args: list[str]) -> Text:
    return Text("    " + shlex.join(args), style="default")
