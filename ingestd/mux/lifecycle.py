"""A stream's life at Mux: made, enabled, given another key, deleted; and nothing is left behind there."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING

import structlog
import trio
from attrs import evolve, frozen
from sqlalchemy import Connection

from ingestd.config import MuxConfig, SupervisorConfig
from ingestd.errors import IngestdError
from ingestd.mux.errors import MuxError, MuxUnclear
from ingestd.mux.model import LiveStream, LiveStreamOptions, SimulcastTarget
from ingestd.mux_check import window_problem
from ingestd.registry.database import Database, DatabaseUnavailable
from ingestd.registry.leftovers import (
    add_leftover,
    announce_leftover,
    change_leftover,
    drop_leftover,
    dropping,
    due_leftovers,
    list_leftovers,
)
from ingestd.registry.model import Leftover, MuxLink, Playback, Target

if TYPE_CHECKING:
    from ingestd.mux.client import MuxClient

log = structlog.get_logger(__name__)

#: Seconds before the first attempt to delete what was left behind, and between two of them at most.
_FIRST, _LONGEST = 60.0, 6 * 3600.0


class OptionsRefused(IngestdError):
    """The live stream would not work with these options; the text says why, and what to change."""


@frozen(slots=True, kw_only=True)
class Made:
    """What was made at Mux for a stream, as the registry keeps it; *kept* says that it does."""

    link: MuxLink
    target: Target
    playback: tuple[Playback, ...]
    kept: Callable[[Connection], None]


class Lifecycle:
    """What the control API calls. Each method raises the errors of `MuxClient`; `run` cleans up behind it.

    What may be left behind is in *database* before it can be, so that it outlives this daemon: a live stream
    from before it is made until its stream is stored, and from when that is forgotten until it is deleted.
    """

    def __init__(
        self,
        config: MuxConfig,
        supervisor: SupervisorConfig,
        client: MuxClient,
        database: Database,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._supervisor = supervisor
        self._client = client
        self._database = database
        self._now = now
        self._at_work: set[str] = set()

    @asynccontextmanager
    async def creating(
        self, stream: str, sink: str, patience: float, options: LiveStreamOptions | None = None
    ) -> AsyncIterator[Made]:
        """Make a live stream for *stream*, whose sink *sink* has the timeout *patience* (s).

        The body stores it, and does what `Made.kept` says in the same transaction. If it raises, or is
        cancelled, the live stream is deleted again, now or later by `run`. Raises `OptionsRefused`,
        `TooManyLeft` and `DatabaseUnavailable`, too.
        """
        options = options or LiveStreamOptions.of(self._config)
        if problem := window_problem(options.reconnect_window, self._supervisor, patience):
            raise OptionsRefused(f"reconnect_window: {problem}")
        left = self._leftover(passthrough_of(stream), stream)
        self._at_work.add(left.id)
        try:
            await self._database.run(announce_leftover, left)
            try:
                found = await self._client.create(options, left.id)
            except (MuxUnclear, trio.Cancelled):
                self._tell_left(left)
                raise
            except MuxError:
                await self._gone(left)
                raise
            try:
                yield _made(found, options, sink, left)
            except BaseException:
                await self._undo(evolve(left, stream_id=found.id))
                raise
        finally:
            self._at_work.discard(left.id)
        log.info("mux_stream_created", stream=stream, stream_id=found.id)

    async def enable(self, link: MuxLink) -> None:
        await self._client.enable(link.stream_id)

    async def disable(self, link: MuxLink) -> None:
        """Mux cuts off what is being pushed, and takes no more: stop the session first."""
        await self._client.disable(link.stream_id)

    async def reset_key(self, link: MuxLink, sink: str) -> Target:
        """A new key for *sink*; Mux refuses the old one from now on."""
        found = await self._client.reset_stream_key(link.stream_id)
        return Target(sink=sink, key=found.stream_key)

    def leaving(self, stream: str, link: MuxLink) -> Callable[[Connection], None]:
        """What is to be done in the transaction that forgets *stream*, before `delete`."""
        return partial(add_leftover, leftover=self._leftover(link.stream_id, stream, link.stream_id))

    async def delete(self, stream: str, link: MuxLink) -> None:
        """Delete the live stream of *stream*, now; what fails for now is left to `run`."""
        left = self._leftover(link.stream_id, stream, link.stream_id)
        try:
            await self._client.delete(link.stream_id)
        except (MuxError, trio.Cancelled):
            self._tell_left(left)
            raise
        await self._gone(left)
        log.info("mux_stream_deleted", stream=stream, stream_id=link.stream_id)

    async def simulcast(self, link: MuxLink) -> tuple[SimulcastTarget, ...]:
        """Where Mux pushes on to, as it says now."""
        return (await self._client.get(link.stream_id)).simulcast_targets

    async def add_simulcast(self, link: MuxLink, url: str, key: str) -> SimulcastTarget:
        """Have Mux push on to *url* with *key*. Mux takes it only while nothing is being pushed."""
        return await self._client.create_simulcast_target(
            link.stream_id, url, key, f"ingestd:{token_hex(12)}"
        )

    async def remove_simulcast(self, link: MuxLink, target: str) -> None:
        """Only while nothing is being pushed."""
        await self._client.delete_simulcast_target(link.stream_id, target)

    async def leftovers(self) -> list[Leftover]:
        """The live streams at Mux that are to go. Raises `DatabaseUnavailable`."""
        return await self._database.read(list_leftovers)

    async def run(self) -> None:
        """Delete what was left behind, until cancelled: what an earlier daemon left, first and at once."""
        with suppress(DatabaseUnavailable):  # it is logged
            await self.sweep(math.inf)
        while True:
            await trio.sleep(_FIRST)
            with suppress(DatabaseUnavailable):
                await self.sweep(self._now())

    async def sweep(self, now: float) -> None:
        """Try once to delete each live stream whose next attempt is due. Raises `DatabaseUnavailable`."""
        for left in await self._database.read(due_leftovers, now, _LONGEST):
            if left.id in self._at_work:
                continue
            try:
                stream_id = left.stream_id or await self._lookup(left.id)
                if stream_id:
                    await self._client.delete(stream_id)
            except MuxError as error:
                await self._failed(left, str(error))
            else:
                await self._database.run(drop_leftover, left.id)
                log.info("mux_cleaned_up", stream=left.stream, stream_id=stream_id)

    async def _failed(self, left: Leftover, cause: str) -> None:
        now = self._now()
        told = {"stream": left.stream, "stream_id": left.stream_id, "passthrough": left.id, "cause": cause}
        if now - left.since >= self._config.give_up_after:
            await self._database.run(drop_leftover, left.id)
            log.error("mux_given_up", **told)
            return
        attempts = left.attempts + 1
        wait = min(_FIRST * 2.0 ** min(attempts, 30), _LONGEST)
        left = evolve(left, attempts=attempts, next_attempt=now + wait, last_error=cause)
        await self._database.run(change_leftover, left)
        log.info("mux_still_left", **told, attempts=attempts, delay_s=wait)

    async def _lookup(self, passthrough: str) -> str:
        found = await self._client.find(passthrough)
        return found.id if found is not None else ""

    async def _undo(self, left: Leftover) -> None:
        # A cancelled request of the API must not leave a live stream that nobody knows of.
        with trio.CancelScope(shield=True):
            try:
                await self._client.delete(left.stream_id)
            except MuxError:
                self._tell_left(left)
                with suppress(DatabaseUnavailable):  # it is found by its passthrough, then
                    await self._database.run(change_leftover, left)
            else:
                await self._gone(left)
                log.info("mux_create_undone", stream=left.stream, stream_id=left.stream_id)

    async def _gone(self, left: Leftover) -> None:
        with trio.CancelScope(shield=True), suppress(DatabaseUnavailable):  # `sweep` finds that out
            await self._database.run(drop_leftover, left.id)

    def _leftover(self, identity: str, stream: str, stream_id: str = "") -> Leftover:
        now = self._now()
        return Leftover(id=identity, stream=stream, stream_id=stream_id, since=now, next_attempt=now + _FIRST)

    def _tell_left(self, left: Leftover) -> None:
        log.warning("mux_left_behind", stream=left.stream, stream_id=left.stream_id, passthrough=left.id)


def passthrough_of(stream: str) -> str:
    """An id for what is made for *stream* that nothing else has. It is at Mux for people to read, too."""
    return f"ingestd:{stream}:{token_hex(12)}"


def _made(found: LiveStream, options: LiveStreamOptions, sink: str, left: Leftover) -> Made:
    window = found.reconnect_window
    return Made(
        kept=dropping(left.id),
        link=MuxLink(
            stream_id=found.id,
            latency_mode=found.latency_mode or options.latency_mode,
            reconnect_window=options.reconnect_window if window is None else window,
        ),
        target=Target(sink=sink, key=found.stream_key),
        playback=tuple(
            Playback(
                id=each.id,
                provider="mux",
                policy="signed" if each.policy == "signed" else "public",
                url=each.url,
            )
            for each in found.playback_ids
        ),
    )
