"""A pipeline with one stream's own targets in it."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from ingestd.config import Pipeline
from ingestd.registry.model import Stream, Target
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


def target_problems(pipeline: Pipeline, targets: Iterable[Target]) -> list[tuple[str, str]]:
    """What is wrong with *targets* for *pipeline*: pairs of (which field, what was expected). No secrets."""
    pushing = {sink.name: sink for sink in pipeline.sinks if isinstance(sink, PushSink)}
    known = ", ".join(sorted(pushing)) or "none"
    problems: list[tuple[str, str]] = []
    seen: set[str] = set()
    for index, target in enumerate(targets):
        where = f"targets[{index}]"
        sink = pushing.get(target.sink)
        if sink is None:
            text = f'expected a sink of the pipeline "{pipeline.id}" that pushes: {known}'
            problems.append((f"{where}.sink", text))
            continue
        if target.sink in seen:
            problems.append((f"{where}.sink", "expected one target for each sink"))
        seen.add(target.sink)
        if target.url is not None and not hasattr(sink, "url"):
            problems.append((f"{where}.url", f"expected none: {sink.type} sinks know where to go"))
            continue
        found = sink.aimed(target.key, target.url).problems()
        problems += [(f"{where}.{field}", expected) for field, expected in found]
    return problems
