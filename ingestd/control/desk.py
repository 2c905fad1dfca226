"""What can be done with streams: the use cases behind the API's routes, whatever a route is called.

What is answered as done is in the database. One change at a time is made to a stream.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
import trio
from attrs import define, evolve, field
from msgspec import UNSET
from sqlalchemy import Connection

from ingestd.auth.identity import Identity
from ingestd.config import Pipeline
from ingestd.control.at_mux import AtMux
from ingestd.control.errors import Refusal
from ingestd.control.shapes import NewStream, NewTarget, StreamChange
from ingestd.control.validation import beyond, wrong
from ingestd.live.audience import Audience
from ingestd.live.streams import DISABLED, UNKNOWN_KEY, Streams
from ingestd.live.targets import target_problems
from ingestd.names import NAME
from ingestd.registry.directory import StreamTaken
from ingestd.registry.keys import digest, make_key, make_name
from ingestd.registry.model import Stream, Target
from ingestd.registry.registry import Registry
from ingestd.registry.streams import NoStream, StreamChanged

log = structlog.get_logger(__name__)

NO_NAME = "no stream has such a name"
_TRIES = 5


@define(eq=False)
class Desk:
    """*streams* are those that run, *registry* is where they are kept. Methods raise `Refusal`."""

    streams: Streams
    audience: Audience
    registry: Registry
    at_mux: AtMux
    _locks: dict[str, trio.Lock] = field(factory=dict)

    def get(self, name: str) -> Stream:
        """The stream *name*."""
        stream = self.registry.directory.get(name)
        if stream is None:
            if not self.registry.directory.loaded:
                raise Refusal(503, "the streams are not all known yet: the database is away", retry_after=5)
            raise Refusal(404, f'no stream is called "{name}"' if NAME.fullmatch(name) else NO_NAME)
        return stream

    def pipeline_of(self, stream: Stream) -> Pipeline | None:
        """Its pipeline, as the configuration has it."""
        return self.streams.config.pipelines.get(stream.pipeline)

    def has_hls(self, stream: Stream) -> bool:
        """Whether the daemon makes HLS of it: its pipeline has a sink for that."""
        pipeline = self.pipeline_of(stream)
        return pipeline is not None and any(sink.type == "hls" for sink in pipeline.sinks)

    async def create(
        self,
        wanted: NewStream,
        by: Identity,
        also: Callable[[Stream, str], Callable[[Connection], None]] | None = None,
    ) -> tuple[Stream, str]:
        """A new stream and its publish key, of which only the hash is kept. *by* is who wants it.

        What *also* makes of the two is done in the transaction that stores the stream, in a thread.
        """
        _may_aim(by, wanted.targets)
        pipeline = self._pipeline(wanted.pipeline or self.streams.config.control.pipeline)
        targets = _targets(pipeline, wanted.targets)
        self._check_room()
        for _ in range(_TRIES):
            key, now = make_key(), time.time()
            stream = Stream(
                name=wanted.name or make_name(), pipeline=pipeline.id, key_sha256=digest(key),
                enabled=wanted.enabled, created=now, updated=now, title=wanted.title,
                labels=dict(wanted.labels), targets=targets,
            )  # fmt: skip
            sink = self.at_mux.check(pipeline, stream, wanted.mux)
            try:
                async with self.at_mux.creating(stream, sink, wanted.mux) as (stream, kept):
                    asked = [also(stream, key)] if also is not None else []
                    await self.registry.add(stream, *kept, *asked)
            except StreamTaken as error:
                if wanted.name is not None:
                    raise Refusal(409, str(error)) from None
                continue
            log.info("stream_created", stream=stream.name, pipeline=stream.pipeline)
            self.streams.events.tell(
                "stream.created", stream.name, pipeline=stream.pipeline, enabled=stream.enabled
            )
            return stream, key
        raise Refusal(503, "no free name was found; try again", retry_after=1)

    async def change(self, name: str, wanted: StreamChange) -> Stream:
        """The stream *name* with what *wanted* has. What its session was begun with, that goes on with."""
        async with self._alone(name):
            stream = self.get(name)
            if wanted.pipeline is not UNSET and wanted.pipeline != stream.pipeline:
                self._not_declared(stream, "its pipeline")
                pipeline = self._pipeline(wanted.pipeline)
                stream = evolve(stream, pipeline=pipeline.id)
                problems = target_problems(pipeline, stream.targets) if wanted.targets is UNSET else []
                if problems:
                    known = "the stream's targets do not fit it: give others with it"
                    raise wrong("pipeline", known)
            if wanted.targets is not UNSET:
                stream = evolve(stream, targets=_targets(self._pipeline(stream.pipeline), wanted.targets))
            if wanted.title is not UNSET:
                stream = evolve(stream, title=wanted.title)
            if wanted.labels is not UNSET:
                stream = evolve(stream, labels=dict(wanted.labels))
            if wanted.enabled is not UNSET and wanted.enabled != stream.enabled:
                return await self._enable(stream, enabled=wanted.enabled)
            return await self._keep(stream)

    async def enable(self, name: str, *, enabled: bool) -> Stream:
        """Let the stream be published, or not: then its session ends."""
        async with self._alone(name):
            return await self._enable(self.get(name), enabled=enabled)

    async def reset_key(self, name: str) -> tuple[Stream, str]:
        """A new publish key; the old one is worth nothing any more, so that its publisher goes."""
        async with self._alone(name):
            stream = self.get(name)
            self._not_declared(stream, "its key")
            key = make_key()
            # Mux forgets its old key at once: what it gives instead must be stored, whoever hangs up.
            with trio.CancelScope(shield=stream.mux is not None):
                if stream.mux is not None:
                    await self.registry.change(stream)  # while it cannot be, nothing is done
                stream = await self.at_mux.reset_key(stream)
                stream = await self._keep(evolve(stream, key_sha256=digest(key)), key="reset")
        self.streams.end(name, "the stream key was changed", UNKNOWN_KEY)
        return stream, key

    async def delete(self, name: str) -> None:
        """Forget the stream and end its session; sessions and recordings stay."""
        async with self._alone(name):
            stream = self.get(name)
            self._not_declared(stream, "the stream")
            await self.registry.drop(name, *self.at_mux.leaving(stream))
            log.info("stream_deleted", stream=name)
            self.streams.events.tell("stream.deleted", name)
            self.streams.end(name, "the stream was deleted", UNKNOWN_KEY)
            self.streams.forget(name)
            await self.at_mux.delete(stream)

    def stop(self, name: str) -> Stream:
        """End its session in order; its publisher may begin another one."""
        stream = self.get(name)
        if not self.streams.end(name, "stopped by the API"):
            raise Refusal(409, "this stream is not live")
        log.info("stream_stopped", stream=name)
        return stream

    def restart(self, name: str, sink: str) -> Stream:
        """Have the FFmpeg of one sink begin anew."""
        stream = self.get(name)
        session = self.streams.running(name)
        if session is None:
            raise Refusal(409, "this stream is not live")
        if sink not in (run.sink.name for run in session.sinks):
            raise Refusal(404, f'the running session has no sink "{sink}"')
        if not self.streams.restart(name, sink):
            raise Refusal(409, "this sink has no FFmpeg to begin anew: it has ended, or needs none")
        return stream

    async def _enable(self, stream: Stream, *, enabled: bool) -> Stream:
        # Mux is open before we are, and closed after us: it cuts off what is being pushed.
        if enabled:
            await self.at_mux.enable(stream, enabled=True)
        stream = await self._keep(evolve(stream, enabled=enabled))
        if not enabled:
            await self.at_mux.enable(stream, enabled=False)
        return stream

    async def _keep(self, stream: Stream, **told: object) -> Stream:
        """Store what has changed, and let it take effect."""
        before = self.get(stream.name)
        # Two changes are never of the same time, by which others see that something has changed.
        stream = evolve(stream, updated=max(time.time(), before.updated + 1e-3))
        try:
            await self.registry.change(stream, before.updated)
        except (NoStream, StreamChanged) as error:
            raise Refusal(409, str(error)) from None
        self.streams.reaim()
        log.info("stream_updated", stream=stream.name, enabled=stream.enabled)
        changed = {"pipeline": stream.pipeline, "enabled": stream.enabled, **told}
        self.streams.events.tell("stream.updated", stream.name, **changed)
        if not stream.enabled:
            self.streams.end(stream.name, "this stream is disabled", DISABLED)
        return stream

    def _pipeline(self, name: str) -> Pipeline:
        pipeline = self.streams.config.pipelines.get(name)
        if pipeline is None:
            known = ", ".join(sorted(self.streams.config.pipelines)) or "none"
            raise wrong("pipeline", f"expected one of {known}")
        return pipeline

    def _not_declared(self, stream: Stream, what: str) -> None:
        if stream.declared:
            raise Refusal(409, f"{what} is declared in ingestd.toml: change it there, and restart the daemon")

    def _check_room(self) -> None:
        most = self.streams.config.control.max_streams
        if len(self.registry.directory) >= most:
            raise Refusal(
                409, f"there are {most} streams, as many as control.max_streams allows: delete some first"
            )

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        self.get(name)
        lock = self._locks.setdefault(name, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._locks.pop(name, None)


def _may_aim(by: Identity, wanted: list[NewTarget]) -> None:
    """Only an admin names hosts that the daemon is to connect to."""
    for index, target in enumerate(wanted):
        if target.url is not None and not by.may("admin"):
            text = 'a URL takes a token of scope "admin"; leave it out to push to the URL of the pipeline'
            raise beyond("admin", f"targets[{index}].url", text)


def _targets(pipeline: Pipeline, wanted: list[NewTarget]) -> tuple[Target, ...]:
    targets = tuple(Target(sink=target.sink, key=target.key, url=target.url) for target in wanted)
    problems = target_problems(pipeline, targets)
    if problems:
        raise wrong(*problems[0])
    return targets
