"""``/v1/events``: what happens, as it happens (server-sent events, WHATWG HTML 9.2).

An event's id is ``<run>-<number>``. A client that comes again with the last one that it had gets what it
has missed; where that is not possible any more, or was another run of the daemon's, a ``reset`` says so.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import msgspec
import trio
from attrs import define
from msgspec import Meta
from quart import Blueprint, Response, request

from ingestd.control.bodies import endless
from ingestd.control.contract import Answer, Routes
from ingestd.control.desk import Desk
from ingestd.control.errors import Refusal
from ingestd.control.shapes import Name
from ingestd.events import Event, Events
from ingestd.live.status import rfc3339

HEARTBEAT = 15.0
"""Seconds after which a client to which there is nothing to tell is told that."""

_ID = re.compile(r"([0-9a-f]{1,32})-([0-9]{1,15})")
_RETRY_MS = 2000
#: So much is written at once, of what a client has missed.
_AT_ONCE = 100


class EventQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which events."""

    stream: Name | None = None
    type: Annotated[
        list[str],
        Meta(
            description='Only these: whole types like "stream.live", or their nouns like "sink".',
            max_length=50,
        ),
    ] = []
    after: (
        Annotated[
            str,
            Meta(
                description="As `Last-Event-ID`, for clients that cannot send it.", pattern=f"^{_ID.pattern}$"
            ),
        ]
        | None
    ) = None
    last: Annotated[
        int, Meta(ge=0, le=100_000, description="Without an id: begin with so many that were before.")
    ] = 0


def blueprint(desk: Desk, ending: trio.Event) -> Blueprint:
    routes = Routes("events", "Events and log")
    events = desk.streams.events
    places = trio.Semaphore(desk.streams.config.control.max_event_clients)

    @routes.get(
        "/v1/events", "Follow what happens", scope="read", query=EventQuery, problems=(503,),
        answers=[Answer(status=200, about="Events, without end.", media="text/event-stream")],
        headers={"Last-Event-ID": "The id of the last event that was had: go on behind it."},
    )  # fmt: skip
    async def follow(query: EventQuery) -> Response:
        """Server-sent events: `id`, `event` (the type) and `data`, a JSON object with `number`, `at`, `type`,
        `stream` and `data`. Without an id what happens from now on, and the `last` before it. After an event
        `reset` look at `/v1/streams` again: what came before it is lost.
        """
        # A browser sends the header when it reconnects; it then knows more than the address.
        after = request.headers.get("Last-Event-ID") or query.after
        match = _ID.fullmatch(after) if after else None
        if after and match is None:
            raise Refusal(400, "Last-Event-ID: expected the id of an event, like 0123456789abcdef-12")
        try:
            places.acquire_nowait()
        except trio.WouldBlock:
            raise Refusal(
                503, "too many clients follow already (control.max_event_clients)", retry_after=5
            ) from None
        number = events.before(query.last)
        lost = False
        if match is not None:
            lost = match[1] != events.run or int(match[2]) > events.last
            number = events.last if lost else int(match[2])
        follower = _Follower(events, ending, number, lost, query)
        return endless(follower.run(), places.release, "text/event-stream")

    return routes.blueprint


@define(eq=False)
class _Follower:
    """One client, which has had everything up to *number*, unless something was *lost*."""

    events: Events
    ending: trio.Event
    number: int
    lost: bool
    query: EventQuery

    async def run(self) -> AsyncGenerator[bytes, None]:
        yield f"retry: {_RETRY_MS}\n".encode() + self._place()
        while not self.ending.is_set():
            found, lost = self.events.since(self.number)
            if self.lost or lost:
                self.lost = False
                self.number = self.events.last
                yield self._reset()
                continue
            if not found:
                await self._wait()
                # Also what was passed over counts as had.
                if self.events.last == self.number and not self.ending.is_set():
                    yield b": nothing new\n" + self._place()
                continue
            for begin in range(0, len(found), _AT_ONCE):
                part = found[begin : begin + _AT_ONCE]
                self.number = part[-1].number
                if text := b"".join(self._told(event) for event in part if self._is_wanted(event)):
                    yield text

    async def _wait(self) -> None:
        with trio.move_on_after(HEARTBEAT):
            async with trio.open_nursery() as nursery:

                async def until_ending() -> None:
                    await self.ending.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(until_ending)
                await self.events.wait(self.number)
                nursery.cancel_scope.cancel()

    def _is_wanted(self, event: Event) -> bool:
        if self.query.stream is not None and event.stream != self.query.stream:
            return False
        return not self.query.type or any(
            wanted in (event.type, event.type.partition(".")[0]) for wanted in self.query.type
        )

    def _place(self) -> bytes:
        """Only an id: a client that comes again after it has missed nothing."""
        return f"id: {self.events.run}-{self.number}\n\n".encode()

    def _told(self, event: Event) -> bytes:
        data = {
            "number": event.number, "at": rfc3339(event.at), "type": event.type, "stream": event.stream,
            "data": dict(event.data),
        }  # fmt: skip
        return self._event(event.number, event.type, data)

    def _reset(self) -> bytes:
        return self._event(self.number, "reset", {"run": self.events.run, "number": self.number})

    def _event(self, number: int, kind: str, data: dict[str, Any]) -> bytes:
        text = msgspec.json.encode(data).decode()
        return f"id: {self.events.run}-{number}\nevent: {kind}\ndata: {text}\n\n".encode()
