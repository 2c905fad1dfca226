"""A client of the control API as plain as can be, and what these tests do with streams again and again."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.message import Message
from http.client import HTTPConnection
from typing import Any

import trio
from attrs import frozen

from tests.support.daemon import Daemon


@frozen
class Answer:
    """What was answered."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> dict[str, Any]:
        """The body of an error, which must be RFC 9457's and say the same status."""
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        found: dict[str, Any] = self.json
        assert {"type", "title", "status", "detail"} <= set(found)
        assert found["status"] == self.status
        return found


def call(
    daemon: Daemon | str,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str = "",
    timeout: float = 15,
    **headers: str,
) -> Answer:
    """One request; *body* is sent as JSON unless it is bytes. Underscores in *headers* are dashes."""
    address = daemon if isinstance(daemon, str) else daemon.control
    host, _, port = address.rpartition(":")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    if data is not None:
        named.setdefault("Content-Type", "application/json")
    if token:
        named["Authorization"] = f"Bearer {token}"
    connection = HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request(method, path, body=data, headers=named)
        response = connection.getresponse()
        return Answer(response.status, response.msg, response.read())
    finally:
        connection.close()


async def acall(daemon: Daemon | str, method: str, path: str, body: Any = None, **more: Any) -> Answer:
    """`call`, while others run."""
    return await trio.to_thread.run_sync(lambda: call(daemon, method, path, body, **more))


def make(daemon: Daemon, **wanted: Any) -> dict[str, Any]:
    """A new stream on the pipeline ``test``, as it was answered."""
    answer = call(daemon, "POST", "/v1/streams", {"pipeline": "test", **wanted})
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json
    return made


async def eventually(condition: Callable[[], Any], within: float = 15) -> Any:
    """Call *condition* again and again until it is true; what it was then."""
    with trio.fail_after(within):
        while not (found := await trio.to_thread.run_sync(condition)):  # noqa: ASYNC110  there is no event
            await trio.sleep(0.05)
    return found


async def until(daemon: Daemon, name: str, *states: str, within: float = 20) -> dict[str, Any]:
    """Wait until the stream *name* is in one of *states*; its status then."""
    status: dict[str, Any] = {}
    with trio.move_on_after(within):
        while True:
            status = (await acall(daemon, "GET", f"/v1/streams/{name}")).json
            if status["state"] in states:
                return status
            await trio.sleep(0.05)
    raise AssertionError(f"not {states} within {within} s: {status}")
