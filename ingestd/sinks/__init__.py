"""The sinks by the name that ``type`` in ``[[sinks]]`` gives them: a new one is a file and a line here."""

from __future__ import annotations

from ingestd.sinks.base import Sink
from ingestd.sinks.file import FileSink
from ingestd.sinks.hls import HlsSink
from ingestd.sinks.mux import MuxSink
from ingestd.sinks.rtmp import RtmpSink

SINKS: dict[str, type[Sink]] = {kind.type: kind for kind in (FileSink, HlsSink, RtmpSink, MuxSink)}
