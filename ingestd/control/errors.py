"""Errors as ``application/problem+json`` (RFC 9457), whatever the path."""

from __future__ import annotations

from quart import Response, json
from werkzeug.exceptions import HTTPException


def problem(status: int, title: str, detail: str) -> Response:
    """A response that says in *detail* what was wrong, and never repeats a secret."""
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail})
    response = Response(f"{body}\n", status, content_type="application/problem+json")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def not_found(detail: str) -> Response:
    """404 with *detail*."""
    return problem(404, "Not Found", detail)


async def http_problem(error: HTTPException) -> Response:
    """What Quart and Werkzeug raise, with the headers that belong to it (Allow, Content-Range)."""
    response = problem(error.code or 500, error.name, error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            response.headers[name] = value
    return response
