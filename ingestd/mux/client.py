"""Mux's API for live streams, as far as we use it: typed, retried, and nothing is made twice.

https://docs.mux.com/api-reference/video/live-streams. What only reads, replaces or removes is sent again
after 429, 5xx, a timeout or a broken connection. What makes something is not, unless it cannot have been
made: else it is looked for first, by an id that we gave it (``passthrough``).
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import structlog
import trio
from attrs import evolve

from ingestd.config import MuxConfig
from ingestd.mux.backoff import Backoff
from ingestd.mux.errors import MuxError, MuxNotFound, MuxUnavailable, MuxUnclear
from ingestd.mux.http import Answer, Failed, Http, Outcome
from ingestd.mux.model import (
    LiveStream,
    LiveStreamOptions,
    PlaybackId,
    SimulcastTarget,
    Unexpected,
    live_stream,
    playback_id,
    simulcast_target,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

ROOT = "/video/v1/live-streams"
#: Live streams that are looked through for one that may have been made: pages of 100.
_PAGE, _PAGES = 100, 50


class MuxClient:
    """An async context manager. Each call takes ``mux.deadline`` at most, with all its attempts.

    Each raises `MuxUnavailable`, `MuxUnauthorised`, `MuxNotFound` or `MuxRefused`.
    """

    def __init__(
        self, config: MuxConfig, *, http: Http | None = None, jitter: Callable[[], float] = random.random
    ) -> None:
        self._config = config
        self._http = http or Http(config)
        self._backoff = Backoff(random=jitter)

    async def __aenter__(self) -> MuxClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with trio.CancelScope(shield=True):
            await self._http.aclose()

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """How many requests came to what, since the start."""
        return self._http.outcomes

    async def create(self, options: LiveStreamOptions, passthrough: str) -> LiveStream:
        """Make a live stream. *passthrough* is ours alone: by it one that may have been made is found again.

        Raises `MuxUnclear`, too, when Mux could not be asked whether it was made.
        """

        async def find() -> LiveStream | None:
            return await self._find(passthrough)

        doubt = _Doubt()
        try:
            async with self._deadline():
                made = await self._make(ROOT, options.body(passthrough), live_stream, find, doubt)
        except MuxUnavailable as error:
            if doubt.any:
                raise MuxUnclear(f"{error}; a live stream may have been made", passthrough) from error
            raise
        if doubt.any:
            await self._remove_others(made)
        return made

    async def get(self, stream_id: str) -> LiveStream:
        async with self._deadline():
            return await self._get(stream_id)

    async def update(self, stream_id: str, changes: dict[str, Any]) -> LiveStream:
        """Set *changes*, as Mux names them: ``latency_mode``, ``reconnect_window`` and the like."""
        async with self._deadline():
            return _as(live_stream, await self._ask("PATCH", _path(stream_id), changes))

    async def delete(self, stream_id: str) -> None:
        """Remove a live stream; one that is not there is removed. What is being pushed is cut off."""
        with suppress(MuxNotFound):
            await self._do("DELETE", _path(stream_id))

    async def complete(self, stream_id: str) -> None:
        """End the recording now. An encoder that still pushes is cut off 60 s later."""
        await self._do("PUT", _path(stream_id, "complete"))

    async def enable(self, stream_id: str) -> None:
        await self._do("PUT", _path(stream_id, "enable"))

    async def disable(self, stream_id: str) -> None:
        """Take no more; what is being pushed is cut off at once."""
        await self._do("PUT", _path(stream_id, "disable"))

    async def reset_stream_key(self, stream_id: str) -> LiveStream:
        """Replace the stream key; the old one is refused from now on."""
        async with self._deadline():
            doubt = _Doubt()
            found = _as(
                live_stream, await self._ask("POST", _path(stream_id, "reset-stream-key"), doubt=doubt)
            )
            # Of two resets the earlier may have been the later one: what counts is what Mux has.
            return await self._get(stream_id) if doubt.any else found

    async def create_playback_id(self, stream_id: str, policy: str) -> PlaybackId:
        """One more playback id with *policy*."""
        async with self._deadline():
            known = {each.id for each in (await self._get(stream_id)).playback_ids}

            async def find() -> PlaybackId | None:
                found = (await self._get(stream_id)).playback_ids
                return next((each for each in found if each.id not in known and each.policy == policy), None)

            path = _path(stream_id, "playback-ids")
            return await self._make(path, {"policy": policy}, playback_id, find, _Doubt())

    async def delete_playback_id(self, stream_id: str, playback: str) -> None:
        with suppress(MuxNotFound):
            await self._do("DELETE", _path(stream_id, "playback-ids", playback))

    async def create_simulcast_target(
        self, stream_id: str, url: str, key: str, passthrough: str
    ) -> SimulcastTarget:
        """Have Mux push on to *url* with *key*. Only while the live stream is idle. *passthrough* is ours."""

        async def find() -> SimulcastTarget | None:
            found = (await self._get(stream_id)).simulcast_targets
            return next((each for each in found if each.passthrough == passthrough), None)

        body = {"url": url, "stream_key": key, "passthrough": passthrough}
        async with self._deadline():
            path = _path(stream_id, "simulcast-targets")
            return await self._make(path, body, simulcast_target, find, _Doubt())

    async def delete_simulcast_target(self, stream_id: str, target: str) -> None:
        """Only while the live stream is idle."""
        with suppress(MuxNotFound):
            await self._do("DELETE", _path(stream_id, "simulcast-targets", target))

    async def find(self, passthrough: str) -> LiveStream | None:
        """The live stream that was made with *passthrough*, among the 5,000 that Mux lists first."""
        async with self._deadline():
            return await self._find(passthrough)

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        with trio.move_on_after(self._config.deadline) as scope:
            yield
        if scope.cancelled_caught:
            raise MuxUnavailable(f"Mux did not do it within mux.deadline, {self._config.deadline:g} s")

    async def _do(self, method: str, path: str) -> None:
        async with self._deadline():
            await self._ask(method, path)

    async def _get(self, stream_id: str) -> LiveStream:
        return _as(live_stream, await self._ask("GET", _path(stream_id)))

    async def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        doubt: _Doubt | None = None,
    ) -> Answer:
        """Send it until it is answered: for what may be done twice. *doubt* learns if it may have been."""
        failures = 0
        while True:
            try:
                return await self._http.send(method, path, body, query)
            except Failed as failed:
                failures += 1
                if doubt is not None:
                    doubt.any |= failed.done
                await self._wait(failures, failed)

    async def _make(
        self,
        path: str,
        body: dict[str, Any],
        parse: Callable[[object], T],
        find: Callable[[], Awaitable[T | None]],
        doubt: _Doubt,
    ) -> T:
        """Send it again only where *find* does not find what it was to make."""
        failures = 0
        while True:
            try:
                answer = await self._http.send("POST", path, body)
                try:
                    return parse(answer.data)
                except Unexpected as error:
                    raise Failed(f"Mux answered {answer.status}: {error}", done=True) from None
            except Failed as failed:
                failures += 1
                doubt.any |= failed.done
                await self._wait(failures, failed)
                if doubt.any and (found := await find()) is not None:
                    return found

    async def _wait(self, failures: int, failed: Failed) -> None:
        """Wait for the time of the next attempt; raises `MuxUnavailable` when there is none."""
        delay = self._backoff.delay(failures, failed.retry_after)
        left = trio.current_effective_deadline() - trio.current_time()
        if failures > self._config.max_retries or delay >= left:
            raise MuxUnavailable(str(failed), failed.retry_after) from None
        log.info("mux_retrying", cause=str(failed), attempt=failures, delay_s=round(delay, 3))
        await trio.sleep(delay)

    async def _find(self, passthrough: str) -> LiveStream | None:
        return next(iter(await self._all(passthrough, first=True)), None)

    async def _all(self, passthrough: str, *, first: bool = False) -> list[LiveStream]:
        """The live streams with *passthrough*. Mux cannot be asked for them: all are looked through."""
        found: list[LiveStream] = []
        for page in range(1, _PAGES + 1):
            answer = await self._ask("GET", ROOT, query={"limit": _PAGE, "page": page})
            if not isinstance(answer.data, list):
                raise MuxUnavailable("Mux listed no live streams; is mux.api right?")
            for item in answer.data:
                if isinstance(item, dict) and item.get("passthrough") == passthrough:
                    found.append(_as(live_stream, evolve(answer, data=item)))
            if len(answer.data) < _PAGE or (first and found):
                break
        return found

    async def _remove_others(self, kept: LiveStream) -> None:
        """Delete what an attempt made that was thought to have failed, and had only been slow."""
        try:
            async with self._deadline():
                for other in await self._all(kept.passthrough):
                    if other.id != kept.id:
                        log.warning("mux_made_twice", deleted=other.id, kept=kept.id)
                        await self._ask("DELETE", _path(other.id))
        except MuxError as error:
            log.warning("mux_not_looked_through", passthrough=kept.passthrough, cause=str(error))


class _Doubt:
    """Whether *any* attempt may have had its effect without our knowing."""

    def __init__(self) -> None:
        self.any = False


def _path(stream_id: str, *more: str) -> str:
    return "/".join((ROOT, *(quote(part, safe="") for part in (stream_id, *more))))


def _as(parse: Callable[[object, float | None], T], answer: Answer) -> T:
    try:
        return parse(answer.data, answer.at)
    except Unexpected as error:
        raise MuxUnavailable(f"Mux answered {answer.status}: {error}; is mux.api right?") from None
