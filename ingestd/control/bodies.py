"""Bodies of responses that go on for as long as something lives, with a place among a limited number."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType

import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody


class Endless(ResponseBody):
    """What *parts* yields; *done* is called once the response is over, however that came, or never began."""

    def __init__(self, parts: AsyncIterator[bytes], done: Callable[[], object]) -> None:
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
            if close := getattr(self._parts, "aclose", None):
                await close()
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


def endless(parts: AsyncIterator[bytes], done: Callable[[], object], media: str) -> Response:
    """A response of *media* that goes on as long as *parts*; for HEAD without a body. *done* as above."""
    body = Endless(parts, done)
    if request.method == "HEAD":
        body.close()
        return _of(Response(b"", content_type=media))
    response = Response(body, content_type=media)
    response.timeout = None  # who takes nothing is cut off by the listener
    return _of(response)


def _of(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep it until there is more
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
