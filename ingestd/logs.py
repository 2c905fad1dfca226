"""Structured logs: events with constant names and key/values, for people or as JSON lines on stderr."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

from ingestd.config import LogConfig
from ingestd.log_ring import LogRing

if TYPE_CHECKING:
    from structlog.typing import Processor


def configure(config: LogConfig) -> LogRing:
    """Set up structlog, and the standard library's loggers of our dependencies, for the process.

    Tracebacks come without local variables, which hold keys. Returns what keeps the last events.
    """
    ring = LogRing(config.keep)
    level = getattr(logging, config.level.upper())
    console = config.format == "console" or (config.format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor
    if console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    else:
        plain = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        shared.append(structlog.processors.ExceptionRenderer(plain))
        # A value that is no JSON type comes as text, and one with a secret in its repr should not be logged.
        renderer = structlog.processors.JSONRenderer(default=str)
    structlog.configure(
        processors=[*shared, ring, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _named, ring, renderer],
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.PositionalArgumentsFormatter(),
                *shared,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
    return ring


def _named(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A dependency's record: its words are the message, the event's name is a constant as all are."""
    event["message"] = event.pop("event", "")
    event["event"] = "library_says"
    return event
