"""``/v1/pipelines``: what a stream can become, as the files say; secrets are masked as by ``repr``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from quart import Blueprint

from ingestd.config import Pipeline
from ingestd.control.contract import Routes, ok
from ingestd.control.errors import Refusal
from ingestd.control.shapes import PipelineList, PipelineTold
from ingestd.live.streams import Streams

_HIDDEN = "***"


def blueprint(running: Streams) -> Blueprint:
    routes = Routes("pipelines", "Pipelines")
    pipelines = running.config.pipelines

    @routes.get("/v1/pipelines", "List pipelines", scope="read", answers=[ok(PipelineList)])
    async def listing() -> PipelineList:
        """Those of `pipelines.dir`, as they were loaded when the daemon started."""
        return PipelineList([_told(pipelines[name]) for name in sorted(pipelines)])

    @routes.get(
        "/v1/pipelines/<pipeline>",
        "Show a pipeline",
        scope="read",
        answers=[ok(PipelineTold)],
        problems=(404,),
    )
    async def show(pipeline: str) -> PipelineTold:
        """Sizes are bytes, times seconds, rates bits per second."""
        if pipeline not in pipelines:
            raise Refusal(404, f'no pipeline is called "{pipeline}"')
        return _told(pipelines[pipeline])

    return routes.blueprint


def _told(pipeline: Pipeline) -> PipelineTold:
    return PipelineTold(
        id=pipeline.id,
        video=masked(pipeline.video),
        audio=masked(pipeline.audio),
        publisher=masked(pipeline.publisher),
        slate=masked(pipeline.slate),
        sinks=[{"type": sink.type, **masked(sink)} for sink in pipeline.sinks],
    )


def masked(options: attrs.AttrsInstance) -> dict[str, Any]:
    """The fields of *options* as plain JSON; one that its ``repr`` leaves out is only said to be there."""
    return {each.name: _value(each, getattr(options, each.name)) for each in attrs.fields(type(options))}


def _value(field: attrs.Attribute[Any], value: Any) -> Any:
    if callable(field.repr):
        return field.repr(value)
    if not field.repr:
        return _HIDDEN if value else None
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
