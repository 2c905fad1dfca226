"""Ctrl-C as a wish to end in order, and only then as an order to stop."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


class Stop:
    """Whether the end is wanted, by SIGINT, SIGTERM or `request`; *wanted* is set then."""

    def __init__(self) -> None:
        self.wanted = trio.Event()
        self._waiting: trio.CancelScope | None = None

    def request(self) -> None:
        """Ask for the end. Never blocks."""
        self.wanted.set()
        if self._waiting is not None:
            self._waiting.cancel()

    async def listen(
        self,
        cut_short: Callable[[], object],
        *,
        patience: int = 1,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Turn signals into requests until cancelled; the one after *patience* of them calls *cut_short*."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            count = 0
            async for _ in signals:
                count += 1
                self.request()
                if count > patience:
                    cut_short()

    async def until(self, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Pass on *items* until the end is wanted, even while the next one is waited for; closes *items*."""
        try:
            while not self.wanted.is_set():
                with trio.CancelScope() as self._waiting:
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        return
                if self._waiting.cancelled_caught:
                    return
                yield item
        finally:
            self._waiting = None
            await items.aclose()
