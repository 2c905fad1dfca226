"""Mux as the daemon has it: one client, the watched loop over it, and the life of streams there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
from attrs import frozen

from ingestd.config import Config, MuxConfig
from ingestd.events import Events
from ingestd.mux.lifecycle import Lifecycle
from ingestd.mux.loop import Find, Linked, MuxLoop
from ingestd.mux.receiver import Receiver
from ingestd.registry.directory import Directory
from ingestd.registry.registry import Registry
from ingestd.sinks.mux import MuxSink

if TYPE_CHECKING:
    from ingestd.mux.client import MuxClient

#: Seconds that Mux may take to hear of the last sessions; without it, it waits for its reconnect window.
_LAST_WORDS = 5.0


@frozen(slots=True)
class Mux:
    """What the control API needs of it. *receiver* takes webhooks, *find* says what a stream is there."""

    config: MuxConfig
    client: MuxClient
    life: Lifecycle
    loop: MuxLoop
    receiver: Receiver
    find: Find


@asynccontextmanager
async def open_mux(config: Config, registry: Registry, events: Events) -> AsyncIterator[Mux | None]:
    """`Mux` for the time of the block, at whose end it is told of all sessions that have ended in it.

    None where ``[mux]`` has no tokens. *registry* says which streams are there; *events*, what they do.
    """
    directory = registry.directory
    if not config.mux.enabled:
        yield None
        return
    from ingestd.mux.client import MuxClient  # and httpx with it, only where it is used

    async with MuxClient(config.mux) as client:
        life = Lifecycle(config.mux, config.supervisor, client, registry.database)
        find = linked_in(config, directory)
        loop = MuxLoop(config.mux, client, find)
        events.listen(loop.hear)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(life.run)
            await nursery.start(loop.run, directory.names)
            directory.when_filled.append(lambda: loop.follow_all(directory.names))
            yield Mux(config.mux, client, life, loop, Receiver(config.mux, loop.receive), find)
            with trio.move_on_after(_LAST_WORDS):
                await loop.drain()
            nursery.cancel_scope.cancel()


def linked_in(config: Config, directory: Directory) -> Find:
    """Tells of a stream of *directory*, by its name, what it is at Mux."""

    def find(name: str) -> Linked | None:
        stream = directory.get(name)
        pipeline = config.pipelines.get(stream.pipeline) if stream is not None else None
        if stream is None or stream.mux is None or pipeline is None:
            return None
        # One with a key of its own pushes to another live stream.
        own = {target.sink for target in stream.targets}
        sinks = (sink.name for sink in pipeline.sinks if isinstance(sink, MuxSink) and sink.per_stream)
        return Linked(stream.mux.stream_id, frozenset(own.intersection(sinks)))

    return find
