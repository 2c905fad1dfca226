"""Errors as ``application/problem+json`` (RFC 9457), whatever the path."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

from quart import Response, json
from werkzeug.exceptions import HTTPException

from ingestd.auth.identity import Scope
from ingestd.errors import IngestdError


class Refusal(IngestdError):
    """Answer with the problem *status*: *detail* says what was wrong, and never repeats a secret.

    *more* are members of the problem's own; *retry_after* says in how many seconds to come again, *scope*
    which one the token lacks.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after: float | None = None,
        scope: Scope | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        self.scope = scope
        self.more = more


def problem(status: int, title: str, detail: str, **more: Any) -> Response:
    """A response that says in *detail* what was wrong, and never repeats a secret."""
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail, **more})
    response = Response(f"{body}\n", status, content_type="application/problem+json")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response


def not_found(detail: str) -> Response:
    """404 with *detail*."""
    return problem(404, "Not Found", detail)


async def refused(error: Refusal) -> Response:
    """What a view has refused."""
    response = problem(error.status, HTTPStatus(error.status).phrase, error.detail, **error.more)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.scope is not None:
        response.headers["WWW-Authenticate"] = challenge(insufficient(error.scope))
    return response


def challenge(*params: str) -> str:
    """A ``WWW-Authenticate`` as RFC 6750 has it."""
    return ", ".join(('Bearer realm="ingestd"', *params))


def insufficient(scope: Scope) -> str:
    """What a challenge says of a token that lacks *scope*."""
    return f'error="insufficient_scope", scope="{scope}"'


async def http_problem(error: HTTPException) -> Response:
    """What Quart and Werkzeug raise, with the headers that belong to it (Allow, Content-Range)."""
    response = problem(error.code or 500, error.name, error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            response.headers[name] = value
    return response
