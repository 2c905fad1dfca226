"""What the control API answers: JSON, or an error that says what to do."""

from __future__ import annotations

from typing import Any

import httpx

from ingestd.errors import IngestdError

TOKEN = "INGESTD_TOKEN"  # noqa: S105  its name in the environment
PROBLEM = "application/problem+json"


class DaemonUnreachable(IngestdError):
    """Nothing answers HTTP at the control address: probably no daemon runs."""

    hint = 'Is the daemon running? Start it with "ingestd run", or say where it is with --url.'


class AnswerLost(IngestdError):
    """The connection broke after the request may have been read: whether it was done is not known."""


class ApiError(IngestdError):
    """Something answers, but not as a daemon does."""


class NotAllowed(ApiError):
    """The daemon wants a token, or another one."""


class Problem(ApiError):
    """The daemon refuses, with *status*, and says why in *detail* (RFC 9457).

    *retry_after*: in how many seconds it may be tried again; None where that would change nothing.
    """

    def __init__(self, status: int, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail if retry_after is None else f"{detail}; try again in {retry_after:g} s")
        self.status = status
        self.detail = detail
        self.retry_after = retry_after


class UnknownStream(IngestdError):
    """The daemon has no stream of that name."""


class UnknownSink(IngestdError):
    """The stream's running session has no sink of that name."""


def read(response: httpx.Response, shown: str, path: str, *, with_token: bool) -> dict[str, Any]:
    """The JSON object in *response*, or ``{}`` for 204. Raises `ApiError`, `NotAllowed` and `Problem`.

    *shown* is the daemon's URL as it may be shown, *path* what was asked for.
    """
    if response.status_code == httpx.codes.NO_CONTENT:
        return {}
    try:
        body = response.json()
    except ValueError:
        body = None
    said = isinstance(body, dict) and response.headers.get("content-type", "").startswith(PROBLEM)
    detail = str(body.get("detail") or body.get("title")) if said else ""
    if response.status_code == httpx.codes.UNAUTHORIZED:
        given = "another token than that" if with_token else "a token"
        raise NotAllowed(f"the daemon at {shown} wants {given} in ${TOKEN} ({response.status_code})")
    if response.status_code == httpx.codes.FORBIDDEN:
        better = f"; give one that has it in ${TOKEN}" if "no scope" in detail else ""
        raise NotAllowed(f"the daemon at {shown} refuses that: {detail or 'forbidden'}{better} (403)")
    if said and response.is_error:
        raise Problem(response.status_code, detail, _retry_after(response))
    if not response.is_success or not isinstance(body, dict):
        kind = response.headers.get("content-type", "no content type")
        raise ApiError(
            f"{shown}{path}: expected JSON with status 200, got {response.status_code} ({kind}); "
            "is this an ingestd?"
        )
    return body


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
