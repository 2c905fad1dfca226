"""A stream's life at Mux: made, enabled, given another key, deleted; and nothing is left behind there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex

import structlog
import trio
from attrs import field, frozen

from ingestd.config import MuxConfig, SupervisorConfig
from ingestd.errors import IngestdError
from ingestd.mux.client import MuxClient, passthrough_of
from ingestd.mux.errors import MuxError, MuxUnclear
from ingestd.mux.model import LiveStream, LiveStreamOptions, SimulcastTarget
from ingestd.mux_check import window_problem
from ingestd.registry.model import MuxLink, Playback, Target

log = structlog.get_logger(__name__)

_SWEEP_EVERY = 60.0  # seconds
_MOST_LEFT = 1000


class OptionsRefused(IngestdError):
    """The live stream would not work with these options; the text says why, and what to change."""


@frozen(slots=True, kw_only=True)
class Made:
    """What was made at Mux for a stream, as the registry keeps it."""

    link: MuxLink
    target: Target
    playback: tuple[Playback, ...]


@frozen(slots=True)
class _Left:
    """A live stream that should not be there: known by its id, or only by what it was made with."""

    stream: str
    stream_id: str = ""
    passthrough: str = field(default="", kw_only=True)


class Lifecycle:
    """What the control API calls. Each method raises the errors of `MuxClient`; `run` cleans up behind it."""

    def __init__(self, config: MuxConfig, supervisor: SupervisorConfig, client: MuxClient) -> None:
        self._config = config
        self._supervisor = supervisor
        self._client = client
        self._left: OrderedDict[str, _Left] = OrderedDict()

    @property
    def left(self) -> int:
        """How many live streams there are, or may be, at Mux that nobody uses and that are still to go."""
        return len(self._left)

    @asynccontextmanager
    async def creating(
        self, stream: str, sink: str, patience: float, options: LiveStreamOptions | None = None
    ) -> AsyncIterator[Made]:
        """Make a live stream for *stream*, whose sink *sink* has the timeout *patience* (s).

        The body writes it down. If it raises, or is cancelled, the live stream is deleted again; what could
        not be deleted is remembered, logged, and tried again by `run`. Raises `OptionsRefused`, too.
        """
        options = options or LiveStreamOptions.of(self._config)
        if problem := window_problem(options.reconnect_window, self._supervisor, patience):
            raise OptionsRefused(f"reconnect_window: {problem}")
        passthrough = passthrough_of(stream)
        try:
            found = await self._client.create(options, passthrough)
        except (MuxUnclear, trio.Cancelled):
            self._remember(_Left(stream, passthrough=passthrough))
            raise
        try:
            yield _made(found, options, sink)
        except BaseException:
            await self._undo(stream, found.id)
            raise
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

    async def delete(self, stream: str, link: MuxLink) -> None:
        """Delete the live stream of *stream*, now or later: what fails for now is left to `run`."""
        try:
            await self._client.delete(link.stream_id)
        except (MuxError, trio.Cancelled):
            self._remember(_Left(stream, link.stream_id))
            raise
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

    async def run(self) -> None:
        """Delete what was left behind, until cancelled."""
        while True:
            await trio.sleep(_SWEEP_EVERY)
            await self.sweep()

    async def sweep(self) -> None:
        """Try once to delete each live stream that was left behind."""
        for key, left in list(self._left.items()):
            try:
                stream_id = left.stream_id or await self._lookup(left.passthrough)
                if stream_id:
                    await self._client.delete(stream_id)
            except MuxError as error:
                log.info("mux_still_left", stream=left.stream, stream_id=left.stream_id, cause=str(error))
            else:
                self._left.pop(key, None)
                log.info("mux_cleaned_up", stream=left.stream, stream_id=stream_id)

    async def _lookup(self, passthrough: str) -> str:
        found = await self._client.find(passthrough)
        return found.id if found is not None else ""

    async def _undo(self, stream: str, stream_id: str) -> None:
        # A cancelled request of the API must not leave a live stream that nobody knows of.
        with trio.CancelScope(shield=True):
            try:
                await self._client.delete(stream_id)
            except MuxError:
                self._remember(_Left(stream, stream_id))
            else:
                log.info("mux_create_undone", stream=stream, stream_id=stream_id)

    def _remember(self, left: _Left) -> None:
        self._left[left.stream_id or left.passthrough] = left
        log.error(
            "mux_left_behind", stream=left.stream, stream_id=left.stream_id, passthrough=left.passthrough
        )
        if len(self._left) > _MOST_LEFT:
            self._left.popitem(last=False)


def _made(found: LiveStream, options: LiveStreamOptions, sink: str) -> Made:
    window = found.reconnect_window
    return Made(
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
