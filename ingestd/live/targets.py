"""A pipeline with one stream's own targets in it."""

from __future__ import annotations

from attrs import evolve

from ingestd.config import Pipeline
from ingestd.registry.model import Stream
from ingestd.sinks.push import PushSink


def aimed(pipeline: Pipeline, stream: Stream) -> Pipeline:
    """*pipeline* with its sinks aimed at the targets of *stream*; those of other sinks are passed over."""
    targets = {target.sink: target for target in stream.targets}
    sinks = (
        sink.aimed(targets[sink.name].key, targets[sink.name].url)
        if isinstance(sink, PushSink) and sink.name in targets
        else sink
        for sink in pipeline.sinks
    )
    return evolve(pipeline, sinks=tuple(sinks))
