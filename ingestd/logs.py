"""Structured logs: events with constant names and key/values, for people or as JSON lines on stderr."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

from ingestd.config import LogConfig

if TYPE_CHECKING:
    from structlog.typing import Processor


def configure(config: LogConfig) -> None:
    """Set up structlog, and the standard library's loggers of our dependencies, for the process."""
    level = getattr(logging, config.level.upper())
    console = config.format == "console" or (config.format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    else:
        shared.append(structlog.processors.dict_tracebacks)
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
