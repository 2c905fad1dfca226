"""What becomes of a stream at Mux when it is made, changed or deleted here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from attrs import evolve, frozen
from sqlalchemy import Connection

from ingestd.config import Pipeline
from ingestd.control.errors import Refusal
from ingestd.control.shapes import NewMux
from ingestd.control.validation import wrong
from ingestd.mux.errors import MuxError
from ingestd.mux.lifecycle import OptionsRefused
from ingestd.mux.model import LiveStreamOptions, SimulcastTarget
from ingestd.mux.service import Mux
from ingestd.registry.leftovers import TooManyLeft
from ingestd.registry.model import MuxLink, Stream
from ingestd.sinks.mux import MuxSink


@frozen(slots=True)
class AtMux:
    """Does nothing where there is no *mux*. Methods raise `Refusal` and the errors of `MuxClient`."""

    mux: Mux | None

    def check(self, pipeline: Pipeline, stream: Stream, wanted: NewMux | None) -> MuxSink | None:
        """The sink that *stream* needs a live stream at Mux for, which *wanted* has options of."""
        given = {target.sink for target in stream.targets}
        sinks = [
            sink
            for sink in pipeline.sinks
            if isinstance(sink, MuxSink) and sink.per_stream and sink.name not in given
        ]
        if self.mux is None or not sinks:
            if wanted is not None:
                raise wrong("mux", "expected none: no sink of the pipeline is to have a live stream made")
            return None
        if len(sinks) > 1:
            names = ", ".join(f'"{sink.name}"' for sink in sinks[1:])
            raise wrong("targets", f"expected one for each of {names}: one live stream is made, no more")
        return sinks[0]

    @asynccontextmanager
    async def creating(
        self, stream: Stream, sink: MuxSink | None, wanted: NewMux | None
    ) -> AsyncIterator[tuple[Stream, Sequence[Callable[[Connection], None]]]]:
        """*stream* with its live stream; if the block raises, that is deleted again.

        And what is to be done in the transaction that stores it: from then on it is wanted.
        """
        if self.mux is None or sink is None:
            yield stream, ()
            return
        options = self._options(wanted)
        try:
            async with self.mux.life.creating(stream.name, sink.name, sink.timeout, options) as made:
                linked = evolve(
                    stream,
                    targets=(*stream.targets, made.target),
                    playback=(*stream.playback, *made.playback),
                    mux=made.link,
                )
                yield linked, (made.kept,)
        except OptionsRefused as error:
            raise wrong("mux", str(error)) from None
        except TooManyLeft as error:
            raise Refusal(409, str(error)) from None

    async def enable(self, stream: Stream, *, enabled: bool) -> None:
        """Mux takes what is pushed, or cuts it off."""
        if self.mux is not None and stream.mux is not None:
            life = self.mux.life
            await (life.enable(stream.mux) if enabled else life.disable(stream.mux))

    async def reset_key(self, stream: Stream) -> Stream:
        """*stream* with another key for its live stream: nobody else pushes there any more."""
        sink = self._sink(stream)
        if self.mux is None or stream.mux is None or sink is None:
            return stream
        target = await self.mux.life.reset_key(stream.mux, sink)
        return evolve(stream, targets=tuple(target if t.sink == sink else t for t in stream.targets))

    def leaving(self, stream: Stream) -> Sequence[Callable[[Connection], None]]:
        """What is to be done in the transaction that forgets *stream*, before `delete`."""
        if self.mux is None or stream.mux is None:
            return ()
        return (self.mux.life.leaving(stream.name, stream.mux),)

    async def delete(self, stream: Stream) -> None:
        """Delete its live stream, now or later."""
        if self.mux is not None and stream.mux is not None:
            with suppress(MuxError):  # It was logged, and is tried again.
                await self.mux.life.delete(stream.name, stream.mux)

    async def simulcast(self, stream: Stream) -> tuple[SimulcastTarget, ...]:
        """Where Mux pushes on to."""
        mux, link = self._linked(stream)
        return await mux.life.simulcast(link)

    async def add_simulcast(self, stream: Stream, url: str, key: str) -> SimulcastTarget:
        """Have Mux push on to *url*."""
        mux, link = self._linked(stream)
        return await mux.life.add_simulcast(link, url, key)

    async def remove_simulcast(self, stream: Stream, target: str) -> None:
        """Have it stop that."""
        mux, link = self._linked(stream)
        await mux.life.remove_simulcast(link, target)

    def _linked(self, stream: Stream) -> tuple[Mux, MuxLink]:
        if self.mux is None or stream.mux is None:
            raise Refusal(409, "this stream has no live stream at Mux")
        return self.mux, stream.mux

    def standing(self, stream: Stream) -> dict[str, Any]:
        """What Mux says of its live stream: status, since when, and what is wrong."""
        found = self.mux.loop.status(stream.name) if self.mux is not None else None
        return found or {"status": None, "since": None, "warning": None}

    def _sink(self, stream: Stream) -> str | None:
        linked = self.mux.find(stream.name) if self.mux is not None else None
        return min(linked.sinks) if linked is not None and linked.sinks else None

    def _options(self, wanted: NewMux | None) -> LiveStreamOptions | None:
        if self.mux is None or wanted is None:
            return None
        usual = LiveStreamOptions.of(self.mux.config)
        return LiveStreamOptions(
            latency_mode=wanted.latency_mode or usual.latency_mode,
            reconnect_window=usual.reconnect_window
            if wanted.reconnect_window is None
            else wanted.reconnect_window,
            playback_policy=wanted.playback_policy or usual.playback_policy,
        )
