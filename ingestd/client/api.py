"""The control listener's HTTP API, from a client's side; ``docs/api.md`` is its contract."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx

from ingestd.errors import IngestdError

TIMEOUT = 5.0
TOKEN = "INGESTD_TOKEN"  # noqa: S105  its name in the environment
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class DaemonUnreachable(IngestdError):
    """Nothing answers HTTP at the control address: probably no daemon runs."""


class ApiError(IngestdError):
    """Something answers, but not as a daemon does."""


class NotAllowed(ApiError):
    """The daemon wants a token, or another one."""


class UnknownStream(IngestdError):
    """The daemon has no stream of that name."""


class Control:
    """The API at *base_url* (``http://HOST:PORT``) over kept connections; an async context manager.

    It shows *token*, by default the one in ``$INGESTD_TOKEN``. Each method raises `DaemonUnreachable` or
    `ApiError`; the results are the API's JSON as it came.
    """

    def __init__(self, base_url: str, token: str | None = None) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected a URL like http://127.0.0.1:8080")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        #: The URL without user and password: what may be shown.
        self.shown = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "") + parts.path
        # A proxy of the environment is not meant for this machine itself.
        token = token or os.environ.get(TOKEN)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.AsyncClient(
            base_url=base_url, timeout=TIMEOUT, trust_env=parts.hostname not in _LOOPBACK
        )

    async def __aenter__(self) -> Control:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, value, traceback)

    async def health(self) -> dict[str, Any]:
        """``/healthz``: the daemon's ``version`` and how many streams are ``live``."""
        return await self._get("/healthz", open_to_all=True)

    async def streams(self) -> list[dict[str, Any]]:
        """All streams by name, the idle ones too."""
        listed = (await self._get("/v1/streams")).get("streams")
        if not isinstance(listed, list):
            raise ApiError(f"{self.shown}/v1/streams: expected a list of streams; is this an ingestd?")
        return listed

    async def stream(self, name: str) -> dict[str, Any]:
        """One stream. Raises `UnknownStream`, too."""
        return await self._get(f"/v1/streams/{quote(name, safe='')}", name)

    async def logs(
        self, *, limit: int, after: int | None = None, level: str = "debug", stream: str | None = None
    ) -> dict[str, Any]:
        """Log events and where to go on, as ``docs/troubleshooting.md`` says. Raises `UnknownStream`, too."""
        query = {"limit": limit, "after": after, "level": level, "stream": stream}
        given = {key: value for key, value in query.items() if value is not None}
        return await self._get(f"/v1/logs?{urlencode(given)}", stream)

    async def _get(
        self, path: str, stream: str | None = None, *, open_to_all: bool = False
    ) -> dict[str, Any]:
        # What answers there may be no daemon: a token is shown only where one is needed.
        try:
            response = await self._client.get(path, headers={} if open_to_all else self._headers)
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise DaemonUnreachable(f"nothing answers at {self.shown} ({why})") from None
        try:
            body = response.json()
        except ValueError:
            body = None
        if response.status_code == httpx.codes.NOT_FOUND and stream is not None and isinstance(body, dict):
            raise UnknownStream(f'the daemon at {self.shown} has no stream "{stream}"')
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            given = "another token than that" if self._headers else "a token"
            raise NotAllowed(f"the daemon at {self.shown} wants {given} in ${TOKEN} ({response.status_code})")
        if response.status_code != httpx.codes.OK or not isinstance(body, dict):
            kind = response.headers.get("content-type", "no content type")
            raise ApiError(
                f"{self.shown}{path}: expected JSON with status 200, got {response.status_code} ({kind}); "
                "is this an ingestd?"
            )
        return body


async def stream_status(base_url: str, name: str) -> dict[str, Any]:
    """``GET /v1/streams/{name}`` of the daemon at *base_url*, over a connection of its own."""
    async with Control(base_url) as control:
        return await control.stream(name)
