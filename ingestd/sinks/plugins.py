"""Sinks by others: the entry-point group ``ingestd.sinks``; ``docs/sinks.md`` is the guide.

What others wrote may fail in any way; here, and in `ask`, that becomes a text that names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import attrs

from ingestd.errors import FatalFailure, IngestdError
from ingestd.names import NAME
from ingestd.sinks import SINKS
from ingestd.sinks.base import Sink

GROUP = "ingestd.sinks"
_GUIDE = "see docs/sinks.md"

T = TypeVar("T")


def sink_types() -> tuple[Mapping[str, type[Sink]], list[str]]:
    """All sink types, ours and those of installed packages, and what is wrong with packages.

    Each problem is a line that names the package and says how to mend it. Call it once a process:
    it imports what others have written.
    """
    types, owners = dict(SINKS), dict.fromkeys(SINKS, "ingestd")
    problems: list[str] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: (_package(point), point.name)):
        package = _package(point)
        try:
            kind = point.load()
        except (Exception, SystemExit) as error:  # another's module: it may raise anything
            text = f"cannot be loaded: {type(error).__name__}: {error}"
            problems.append(_problem(point, f"{text}; update the package or uninstall it"))
            continue
        wrong = _wrong(point, kind)
        if wrong:
            problems.append(_problem(point, f"{wrong}; {_GUIDE}"))
        elif owners.setdefault(point.name, package) != package:
            text = f"{owners[point.name]} has this type already; uninstall one of them"
            problems.append(_problem(point, text))
        else:
            types[point.name] = kind
    return types, problems


def ask(sink: Sink, question: Callable[[], T]) -> T:
    """What *sink* answers to *question*. Raises `FatalFailure` naming its class where that is at fault.

    What the contract allows, `IngestdError`, passes.
    """
    try:
        return question()
    except IngestdError:
        raise
    except Exception as error:
        kind = type(sink)
        raise FatalFailure(
            f"a defect in sink type {kind.type} ({kind.__module__}): {type(error).__name__}: {error}"
        ) from error


def _wrong(point: EntryPoint, kind: Any) -> str:
    """How *kind* breaks the contract, or nothing."""
    if not (isinstance(kind, type) and issubclass(kind, Sink)):
        return "expected a subclass of ingestd.sinks.base.Sink"
    if "__attrs_attrs__" not in vars(kind):
        return "expected the class to be decorated with @attrs.frozen(kw_only=True)"
    if getattr(kind, "type", None) != point.name:
        return f'expected the class to say type = "{point.name}", as the entry point does'
    if NAME.fullmatch(point.name) is None:
        return 'expected a type of a-z 0-9 "_" "-"'
    if kind.output is Sink.output:
        return "expected the class to have a method output(place, tracks)"
    try:
        attrs.resolve_types(kind, include_extras=True)
    except Exception as error:  # a name that only type checkers see
        return f"the types of its fields cannot be resolved: {type(error).__name__}: {error}"
    return ""


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown package"


def _problem(point: EntryPoint, text: str) -> str:
    return f"package {_package(point)}: sink type {point.name} ({point.value}): {text}"
