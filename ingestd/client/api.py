"""The control listener's HTTP API, from a client's side; ``docs/api.md`` is its contract."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

import httpx
import trio

from ingestd.client import answers
from ingestd.client.answers import (
    TOKEN,
    AnswerLost,
    ApiError,
    DaemonUnreachable,
    NotAllowed,
    Problem,
    UnknownSink,
    UnknownStream,
)

__all__ = [
    "AnswerLost", "ApiError", "Control", "DaemonUnreachable", "NotAllowed", "Problem", "UnknownSink",
    "UnknownStream", "stream_status",
]  # fmt: skip

TIMEOUT = 5.0
#: A database that is away is waited for before that is told.
LIST_TIMEOUT = 15.0
#: What is made or changed may be made at Mux, too, which is tried more than once.
CHANGE_TIMEOUT = 90.0
#: How long a create whose connection broke is tried again.
PATIENCE = 15.0
_PAGE = 1000
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

Steering = Literal["enable", "disable", "stop", "reset-key"]


class Control:
    """The API at *base_url* (``http://HOST:PORT``) over kept connections; an async context manager.

    It shows *token*, by default the one in ``$INGESTD_TOKEN``. Each method raises `DaemonUnreachable` or
    `ApiError`, of which `Problem` is what the daemon refuses; those that change something raise `AnswerLost`,
    too. The results are the API's JSON as it came.
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

    async def ready(self) -> bool:
        """Whether publishers may come: a daemon that was told to stop takes none."""
        response = await self._send("GET", "/readyz", {})
        return response.status_code == httpx.codes.OK

    async def database(self) -> str | None:
        """What the daemon says of its database: ``ok`` or ``away``; None where it does not."""
        said = (await self._get("/internal/health", open_to_all=True)).get("database")
        return said if isinstance(said, str) else None

    # Streams

    async def streams(self, **wanted: str | Iterable[str] | None) -> dict[str, Any]:
        """All ``streams`` by name, the idle ones too; *wanted* are the filters of ``GET /v1/streams``.

        They are not ``complete`` as long as the database has been away since the daemon's start.
        """
        listed = await self._listed("/v1/streams", "streams", None, wanted)
        return {"streams": listed["streams"], "complete": listed.get("complete", True)}

    async def stream(self, name: str) -> dict[str, Any]:
        """One stream. Raises `UnknownStream`, too."""
        return await self._get(_path(name), name)

    async def create_stream(
        self, wanted: Mapping[str, Any], idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """A new stream, with its ``key``, which is told here only.

        Tried again for `PATIENCE` seconds when the connection breaks: with the *idempotency_key*, by
        default one of its own, it is made once.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        deadline, delay, lost = trio.current_time() + PATIENCE, 0.2, False
        while True:
            try:
                return await self._change("POST", "/v1/streams", json=wanted, headers=headers)
            except AnswerLost:
                lost = True
                if trio.current_time() > deadline:
                    raise
            except DaemonUnreachable:
                if not lost or trio.current_time() > deadline:
                    raise
            except Problem as error:
                # What was lost may still be worked on.
                working = error.status == httpx.codes.CONFLICT and error.retry_after is not None
                if not lost or not working or trio.current_time() > deadline:
                    raise
            await trio.sleep(delay)
            delay = min(2 * delay, 2.0)

    async def change_stream(self, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The stream with *changes*. Raises `UnknownStream`, too."""
        return await self._change("PATCH", _path(name), name, json=changes)

    async def delete_stream(self, name: str) -> None:
        """Forget the stream and end its session. Raises `UnknownStream`, too."""
        await self._change("DELETE", _path(name), name)

    async def steer(self, name: str, what: Steering) -> dict[str, Any]:
        """Do *what* to the stream; ``reset-key`` tells the new ``key``. Raises `UnknownStream`, too."""
        return await self._change("POST", f"{_path(name)}/{what}", name)

    async def restart(self, name: str, sink: str) -> dict[str, Any]:
        """Begin one sink of the running session anew. Raises `UnknownStream`, too."""
        try:
            return await self._change("POST", f"{_path(name)}/sinks/{quote(sink, safe='')}/restart", name)
        except UnknownStream:
            status = await self.stream(name)
            names = ", ".join(each["name"] for each in status["sinks"]) or "none"
            raise UnknownSink(f'the session of "{name}" has no sink "{sink}"; it has: {names}') from None

    async def link(self, name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """A signed link to watch the stream, with its ``token``. Raises `UnknownStream`, too."""
        return await self._change("POST", f"{_path(name)}/link", name, json=wanted)

    async def simulcast(self, name: str) -> dict[str, Any]:
        """Where Mux pushes the stream on to, as Mux says. Raises `UnknownStream`, too."""
        return await self._get(f"{_path(name)}/simulcast", name, timeout=CHANGE_TIMEOUT)

    async def add_simulcast(self, name: str, url: str, key: str) -> dict[str, Any]:
        """Have Mux push the stream on to *url* with *key*. Raises `UnknownStream`, too."""
        return await self._change("POST", f"{_path(name)}/simulcast", name, json={"url": url, "key": key})

    async def remove_simulcast(self, name: str, target: str) -> None:
        """Have Mux push it there no more. Raises `UnknownStream`, too."""
        await self._change("DELETE", f"{_path(name)}/simulcast/{quote(target, safe='')}", name)

    # What they leave behind

    async def sessions(self, limit: int, **wanted: str | None) -> dict[str, Any]:
        """The last *limit* sessions; *wanted* are the filters of ``GET /v1/sessions``."""
        return await self._listed("/v1/sessions", "sessions", limit, wanted)

    async def recordings(self, limit: int, **wanted: str | None) -> dict[str, Any]:
        """The last *limit* recordings; *wanted* are the filters of ``GET /v1/recordings``."""
        return await self._listed("/v1/recordings", "recordings", limit, wanted)

    async def recording(self, identifier: str) -> dict[str, Any]:
        """One recording."""
        return await self._get(f"/v1/recordings/{quote(identifier, safe='')}")

    async def delete_recording(self, identifier: str) -> None:
        """Remove one recording with its file, for good."""
        await self._change("DELETE", f"/v1/recordings/{quote(identifier, safe='')}")

    def recording_file(self, identifier: str, headers: Mapping[str, str]) -> httpx.Request:
        """The request for its file; *headers* are beside the token."""
        path = f"/v1/recordings/{quote(identifier, safe='')}/file"
        return self._client.build_request("GET", path, headers={**self._headers, **headers})

    async def open(self, request: httpx.Request) -> httpx.Response:
        """Send *request* and read its headers: the caller reads the body and closes the response."""
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        if response.is_error:
            await response.aread()
            await response.aclose()
            answers.read(response, self.shown, request.url.path, with_token=bool(self._headers))
        return response

    async def webhooks(self) -> list[dict[str, Any]]:
        """The endpoints that are told what happens."""
        found = (await self._get("/v1/webhooks")).get("webhooks", [])
        return found if isinstance(found, list) else []

    async def deliveries(self, limit: int, **wanted: str | None) -> dict[str, Any]:
        """The last *limit* deliveries; *wanted* are the filters of ``GET /v1/webhooks/deliveries``."""
        return await self._listed("/v1/webhooks/deliveries", "deliveries", limit, wanted)

    async def delivery(self, identifier: str) -> dict[str, Any]:
        """One delivery, with its body."""
        return await self._get(f"/v1/webhooks/deliveries/{quote(identifier, safe='')}")

    async def redeliver(self, identifier: str) -> dict[str, Any]:
        """Send one delivery again."""
        return await self._change("POST", f"/v1/webhooks/deliveries/{quote(identifier, safe='')}/redeliver")

    async def test_webhook(self, endpoint: str) -> dict[str, Any]:
        """Send a test to *endpoint*; its delivery."""
        return await self._change("POST", f"/v1/webhooks/{quote(endpoint, safe='')}/test")

    async def logs(
        self, *, limit: int, after: int | None = None, level: str = "debug", stream: str | None = None
    ) -> dict[str, Any]:
        """Log events and where to go on, as ``docs/troubleshooting.md`` says. Raises `UnknownStream`, too."""
        query = {"limit": limit, "after": after, "level": level, "stream": stream}
        given = {key: value for key, value in query.items() if value is not None}
        return await self._get(f"/v1/logs?{urlencode(given)}", stream)

    # Requests

    async def _listed(
        self, path: str, what: str, limit: int | None, wanted: Mapping[str, str | Iterable[str] | None]
    ) -> dict[str, Any]:
        """The pages of a list as one of at most *limit* entries; ``next`` is there when there are more."""
        query = {key: value for key, value in wanted.items() if value is not None and value != ()}
        found: list[dict[str, Any]] = []
        while True:
            count = _PAGE if limit is None else min(_PAGE, limit - len(found))
            asked = urlencode({**query, "limit": count}, doseq=True)
            page = await self._get(f"{path}?{asked}", timeout=LIST_TIMEOUT)
            if not isinstance(page.get(what), list):
                raise ApiError(f"{self.shown}{path}: expected a list of {what}; is this an ingestd?")
            found += page[what]
            if page.get("next") is None or (limit is not None and len(found) >= limit):
                return {**page, what: found}
            query["cursor"] = page["next"]

    async def _get(
        self,
        path: str,
        stream: str | None = None,
        *,
        open_to_all: bool = False,
        timeout: float = TIMEOUT,  # noqa: ASYNC109  httpx's own, which tells what was waited for
    ) -> dict[str, Any]:
        # What answers there may be no daemon: a token is shown only where one is needed.
        response = await self._send("GET", path, {} if open_to_all else self._headers, None, timeout)
        return self._read(response, path, stream)

    async def _change(
        self,
        method: str,
        path: str,
        stream: str | None = None,
        *,
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        response = await self._send(method, path, {**self._headers, **(headers or {})}, json, CHANGE_TIMEOUT)
        return self._read(response, path, stream)

    async def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        json: Mapping[str, Any] | None = None,
        timeout: float = TIMEOUT,  # noqa: ASYNC109  httpx's own, which tells what was waited for
    ) -> httpx.Response:
        patience = httpx.Timeout(TIMEOUT, read=timeout)
        try:
            return await self._client.request(method, path, headers=headers, json=json, timeout=patience)
        except httpx.TransportError as error:
            if method == "GET" or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                raise self._unreachable(error) from None
            why = str(error) or type(error).__name__
            raise AnswerLost(
                f"the daemon at {self.shown} did not answer ({why}), and may have done it: look before you "
                "try again"
            ) from None

    def _unreachable(self, error: httpx.TransportError) -> DaemonUnreachable:
        return DaemonUnreachable(f"nothing answers at {self.shown} ({str(error) or type(error).__name__})")

    def _read(self, response: httpx.Response, path: str, stream: str | None) -> dict[str, Any]:
        try:
            return answers.read(response, self.shown, path, with_token=bool(self._headers))
        except Problem as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            if stream is not None:
                raise UnknownStream(f'the daemon at {self.shown} has no stream "{stream}"') from None
            if path.startswith(("/v1/recordings/", "/v1/webhooks/")):
                raise
            raise ApiError(f"{self.shown}{path.partition('?')[0]}: got 404; is this an ingestd?") from None


def _path(name: str) -> str:
    return f"/v1/streams/{quote(name, safe='')}"


async def stream_status(base_url: str, name: str) -> dict[str, Any]:
    """``GET /v1/streams/{name}`` of the daemon at *base_url*, over a connection of its own."""
    async with Control(base_url) as control:
        return await control.stream(name)
