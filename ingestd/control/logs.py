"""``/v1/logs``: the daemon's last log events; ``docs/troubleshooting.md`` explains the parameters."""

from __future__ import annotations

from quart import Blueprint, Response, json, request

from ingestd.control.access import scope
from ingestd.control.errors import not_found, problem
from ingestd.live.streams import Streams
from ingestd.log_ring import LEVELS, LogRing

MAX_LIMIT = 10_000
_DEFAULT_LIMIT = 100


class _Wrong(ValueError):
    """A parameter is; the text says what was expected."""


def blueprint(running: Streams, ring: LogRing) -> Blueprint:
    blueprint = Blueprint("logs", __name__)

    @blueprint.get("/v1/logs")
    @scope("read")
    async def events() -> Response:
        stream = request.args.get("stream")
        if stream is not None and running.directory.get(stream) is None:
            return not_found(f'no stream is called "{stream}"')
        try:
            limit = _number("limit", 0, MAX_LIMIT)
            page = ring.page(
                after=_number("after", 0, 2**53),
                limit=_DEFAULT_LIMIT if limit is None else limit,
                level=_level(),
                stream=stream,
            )
        except _Wrong as error:
            return problem(400, "Bad Request", str(error))
        head = json.dumps({"run": ring.run, "next": page.next, "lost": page.lost})
        # The events are JSON already.
        body = f'{head[:-1]},"events":[{",".join(entry.text for entry in page.entries)}]}}\n'
        response = Response(body, content_type="application/json")
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint


def _number(name: str, low: int, high: int) -> int | None:
    text = request.args.get(name)
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 16 and low <= int(text) <= high:
        return int(text)
    raise _Wrong(f"{name}: expected a whole number from {low} to {high}")


def _level() -> str:
    level = request.args.get("level", LEVELS[0])
    if level not in LEVELS:
        raise _Wrong(f"level: expected one of {', '.join(LEVELS)}")
    return level
