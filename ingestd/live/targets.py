"""A pipeline with one stream's own targets in it."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from ingestd.config import Pipeline
from ingestd.registry.model import Target
from ingestd.sinks.push import PushSink


def aimed(pipeline: Pipeline, targets: Iterable[Target]) -> Pipeline:
    """*pipeline* with its sinks aimed at *targets*; those of other sinks are passed over."""
    own = {target.sink: target for target in targets}
    sinks = (
        sink.aimed(own[sink.name].key, own[sink.name].url)
        if isinstance(sink, PushSink) and sink.name in own
        else sink
        for sink in pipeline.sinks
    )
    return evolve(pipeline, sinks=tuple(sinks))


def without_target(pipeline: Pipeline) -> frozenset[str]:
    """The names of the sinks of *pipeline* that cannot push before they are aimed."""
    return frozenset(sink.name for sink in pipeline.sinks if isinstance(sink, PushSink) and sink.is_unaimed)


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
