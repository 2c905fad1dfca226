"""Bodies of responses that go on for as long as something lives, with a place among a limited number."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType

import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody

from ingestd.control.access import still

#: So often it is looked whether who gets one may still have it.
RECHECK = 15.0


class Endless(ResponseBody):
    """What *parts* yields; *done* is called once the response is over, however that came, or never began."""

    def __init__(self, parts: AsyncGenerator[bytes, None], done: Callable[[], object]) -> None:
        self._parts = parts
        self._done: Callable[[], object] | None = done

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._parts

    async def __aenter__(self) -> Endless:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            await self._parts.aclose()
        self.close()

    def close(self) -> None:
        """Give the place back; idempotent."""
        done, self._done = self._done, None
        if done is not None:
            done()

    def __del__(self) -> None:
        # A response that was never sent, because the client had gone: HEAD, or a lost connection.
        self.close()

    async def convert_to_sequence(self) -> bytes:
        raise TypeError("this body has no end")

    async def make_conditional(self, begin: int, end: int | None, max_partial_size: int | None = None) -> int:
        del begin, end, max_partial_size
        raise TypeError("this body has no ranges")


def endless(parts: AsyncGenerator[bytes, None], done: Callable[[], object], media: str) -> Response:
    """A response of *media* that goes on as long as *parts*; for HEAD without a body. *done* as above.

    It ends when who has asked for it may have it no more: a token that was revoked takes it along.
    """
    body = Endless(_while_allowed(parts, still()), done)
    if request.method == "HEAD":
        body.close()
        return _of(Response(b"", content_type=media))
    response = Response(body, content_type=media)
    response.timeout = None  # who takes nothing is cut off by the listener
    return _of(response)


async def _while_allowed(
    parts: AsyncGenerator[bytes, None], allowed: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(parts):
        due = trio.current_time() + RECHECK
        async for part in parts:
            yield part
            if trio.current_time() >= due:
                if not await allowed():
                    return
                due = trio.current_time() + RECHECK


def _of(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep it until there is more
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
