"""A FAKE of Mux: its documented API for live streams and its webhooks, over real HTTP on a real socket.

It is made from Mux's public documentation (docs.mux.com: live streams, webhook signatures, disconnects),
not from Mux itself. What it leaves out: rate limits of its own, assets, playback, and media: whether a key
is being pushed it is told (`FakeMux.push_begins`), or sees at a real RTMP server (`FakeMux.follow`).

A fault is ordered beforehand with `FakeMux.fault`; webhooks can be sent again, late, forged or in another
order with `FakeMux.deliver`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, Literal
from urllib.parse import parse_qs

import httpx
import trio
from attrs import define, field

from tests.support.http_fake import Reply, Request, serve
from tests.support.rtmps_server import RtmpServer

TOKEN_ID, TOKEN_SECRET = "44c819de-fake-token-id", "INKxCoZ+fake/token+secret"
WEBHOOK_SECRET = "fake-webhook-signing-secret"
ROOT = "/video/v1/live-streams"

#: What a fault does: answer with a status, never answer (without or after having done it), hang up after
#: having done it, answer 2xx with what is no JSON or too much of it.
Kind = Literal["status", "hang", "hang_after", "hang_up_after", "garbage", "huge"]


@define
class Fault:
    kind: Kind
    status: int = 500
    retry_after: str | None = None
    times: int = 1


@define(eq=False)
class FakeMux:
    """`api` is the base URL. `requests` are all that came: method and path."""

    api: str = ""
    webhook_url: str = ""
    streams: dict[str, dict[str, Any]] = field(factory=dict)
    requests: list[str] = field(factory=list)
    bodies: list[dict[str, Any]] = field(factory=list)
    sent: list[dict[str, Any]] = field(factory=list)
    answers: list[int] = field(factory=list)
    #: Deliver webhooks by itself; and those of a request before its answer.
    webhooks: bool = True
    early: bool = False
    _faults: list[tuple[re.Pattern[str], Fault]] = field(factory=list)
    _nursery: trio.Nursery = field(init=False)
    #: For each ``complete``: whether somebody still pushed, as the RTMP server sees it.
    completed_early: list[bool] = field(factory=list)
    _server: RtmpServer | None = None
    _numbers: int = 0
    _connected: set[str] = field(factory=set)
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    # What tests order

    def fault(
        self,
        request: str,
        kind: Kind = "status",
        *,
        status: int = 500,
        retry_after: str | None = None,
        times: int = 1,
    ) -> None:
        """The next *times* requests that match *request* (``METHOD /path``, a regular expression) fail."""
        self._faults.append((re.compile(request), Fault(kind, status, retry_after, times)))

    def mend(self) -> None:
        """No more faults."""
        self._faults.clear()

    def event(self, what: str, stream_id: str, *, at: float | None = None, **data: object) -> dict[str, Any]:
        """The body of a webhook about *stream_id*, which is not sent."""
        self._numbers += 1
        about = {**self.streams.get(stream_id, {"id": stream_id}), **data}
        when = datetime.fromtimestamp(time.time() if at is None else at, UTC)
        return {
            "type": what,
            "object": {"type": "live", "id": stream_id},
            "id": f"event-{self._numbers:06d}",
            "environment": {"name": "Fake", "id": "fake-env"},
            "data": about,
            "created_at": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "accessor_source": None,
            "accessor": None,
            "request_id": None,
            "attempts": [],
        }

    def sign(self, body: bytes, secret: str = WEBHOOK_SECRET, at: float | None = None) -> str:
        """The header for *body*."""
        stamp = str(int(time.time() if at is None else at))
        mac = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        return f"t={stamp},v1={mac}"

    async def deliver(
        self, event: dict[str, Any], *, secret: str = WEBHOOK_SECRET, signed_at: float | None = None
    ) -> int:
        """Send *event* signed with *secret*, as if at *signed_at*; the status of the answer."""
        body = json.dumps(event).encode()
        headers = {"Mux-Signature": self.sign(body, secret, signed_at), "Content-Type": "application/json"}
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(self.webhook_url, content=body, headers=headers)
        self.answers.append(response.status_code)
        return response.status_code

    async def push_begins(self, key: str) -> None:
        """An encoder connects with *key* and sends media."""
        stream = self._by_key(key)
        if stream is None or stream["status"] == "disabled":
            return
        self._connected.add(stream["id"])
        await self._tell("connected", stream["id"])
        await self._tell("recording", stream["id"])
        stream["status"] = "active"
        await self._tell("active", stream["id"])
        self._changed.unpark_all()

    async def push_ends(self, key: str) -> None:
        """It disconnects; the recording ends when the reconnect window is over, or by ``complete``."""
        stream = self._by_key(key)
        if stream is None or stream["id"] not in self._connected:
            return
        self._connected.discard(stream["id"])
        await self._tell("disconnected", stream["id"])
        if stream["status"] == "active":
            self._nursery.start_soon(self._close_window, stream, stream["reconnect_window"])

    async def follow(self, server: RtmpServer) -> None:
        """See at *server* what is being pushed, for ever."""
        pushing: set[str] = set()
        self._server = server
        while True:
            for stream in list(self.streams.values()):
                key = stream["stream_key"]
                live = server.publishing(key)
                if live and key not in pushing:
                    pushing.add(key)
                    await self.push_begins(key)
                elif not live and key in pushing:
                    pushing.discard(key)
                    await self.push_ends(key)
            await trio.sleep(0.05)

    async def wait_for(self, stream_id: str, status: str) -> None:
        """Until the live stream has *status*."""
        while self.streams[stream_id]["status"] != status:
            await self._changed.park()

    def told(self, stream_id: str | None = None) -> list[str]:
        """The ends of the types of all webhooks so far."""
        of = [event for event in self.sent if stream_id in (None, event["object"]["id"])]
        return [event["type"].removeprefix("video.live_stream.") for event in of]

    # What Mux does

    async def _handle(self, request: Request) -> Reply:
        line = f"{request.method} {request.path}"
        self.requests.append(line)
        expected = base64.b64encode(f"{TOKEN_ID}:{TOKEN_SECRET}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {expected}":
            return _error(401, "unauthorized", "Unauthorized request")
        fault = self._next_fault(line)
        if fault is not None and fault.kind == "hang":
            await trio.sleep_forever()
        if fault is not None and fault.kind == "status":
            headers = (("Retry-After", fault.retry_after),) if fault.retry_after is not None else ()
            if fault.status == 429:
                return _json(429, {"errors": ["Too many requests, retry later..."]}, headers)
            return _json(fault.status, {"error": {"type": "internal", "messages": ["it broke"]}}, headers)
        reply = await self._route(request)
        if fault is None:
            return reply
        if fault.kind == "hang_after":
            await trio.sleep_forever()
        if fault.kind == "hang_up_after":
            return Reply(hang_up=True)
        return Reply(reply.status, b"<html>" if fault.kind == "garbage" else b"[" * 2**21)

    async def _route(self, request: Request) -> Reply:
        try:
            body = json.loads(request.body or b"{}")
        except ValueError:
            return _error(400, "invalid_parameters", "Invalid JSON")
        self.bodies.append(body)
        _, _, rest = request.path.partition(ROOT)
        parts = [part for part in rest.split("/") if part]
        match request.method, parts:
            case "POST", []:
                return await self._create(body)
            case "GET", []:
                return self._list(parse_qs(request.query))
        stream = self.streams.get(parts[0]) if request.path.startswith(ROOT) and parts else None
        if stream is None:
            return _error(
                404, "not_found", "The requested resource doesn't exist, or you have no access to it"
            )
        return await self._one(request.method, parts[1:], stream, body)

    async def _one(self, method: str, rest: list[str], stream: dict[str, Any], body: dict[str, Any]) -> Reply:
        number = stream["id"]
        match method, rest:
            case "GET", []:
                return _json(200, {"data": stream})
            case "PATCH", []:
                if problem := _problem(body):
                    return _error(400, "invalid_parameters", problem)
                stream.update(body)
                await self._tell("updated", number)
                return _json(200, {"data": stream})
            case "DELETE", []:
                del self.streams[number]
                await self._tell("deleted", number)
                return Reply(204)
            case "PUT", ["complete"]:
                await self._notice_end(stream["stream_key"])
                if stream["status"] == "active":
                    await self._idle(stream)
                return _json(200, {})
            case "PUT", ["disable"]:
                if stream["status"] == "active":
                    await self._idle(stream)
                stream["status"] = "disabled"
                await self._tell("disabled", number)
                return _json(200, {})
            case "PUT", ["enable"]:
                stream["status"] = "idle"
                await self._tell("enabled", number)
                return _json(200, {})
            case "POST", ["reset-stream-key"]:
                self._numbers += 1
                stream["stream_key"] = f"fake-key-{self._numbers}-{number}"
                return _json(201, {"data": stream})
            case "POST", ["playback-ids"]:
                made = self._playback(body.get("policy", "public"))
                stream["playback_ids"].append(made)
                return _json(201, {"data": made})
            case "DELETE", ["playback-ids", playback]:
                return self._remove(stream["playback_ids"], playback)
            case "POST", ["simulcast-targets"]:
                if stream["status"] == "active":
                    return _error(400, "invalid_parameters", "Simulcast targets need an idle live stream")
                if not str(body.get("url", "")).startswith(("rtmp://", "rtmps://", "srt://")):
                    return _error(400, "invalid_parameters", f"Invalid url {body.get('url')}")
                self._numbers += 1
                target = {**body, "id": f"target-{self._numbers}", "status": "idle"}
                stream["simulcast_targets"].append(target)
                return _json(201, {"data": target})
            case "DELETE", ["simulcast-targets", target]:
                return self._remove(stream["simulcast_targets"], target)
        return _error(404, "not_found", "no such path")

    async def _create(self, body: dict[str, Any]) -> Reply:
        if problem := _problem(body):
            return _error(400, "invalid_parameters", problem)
        self._numbers += 1
        mode = body.get("latency_mode", "standard")
        stream = {
            "id": f"live-{self._numbers}",
            "created_at": str(int(time.time())),
            "stream_key": f"fake-key-{self._numbers}",
            "status": "idle",
            "latency_mode": mode,
            "reconnect_window": body.get("reconnect_window", 60 if mode == "standard" else 0),
            "max_continuous_duration": 43200,
            "playback_ids": [self._playback(policy) for policy in body.get("playback_policies", [])],
            "simulcast_targets": [],
            "passthrough": body.get("passthrough", ""),
            "new_asset_settings": body.get("new_asset_settings", {}),
        }
        self.streams[stream["id"]] = stream
        await self._tell("created", stream["id"])
        return _json(201, {"data": stream})

    def _list(self, query: dict[str, list[str]]) -> Reply:
        limit, page = (int(query.get(key, [default])[0]) for key, default in (("limit", "10"), ("page", "1")))
        newest_first = list(reversed(self.streams.values()))
        return _json(200, {"data": newest_first[(page - 1) * limit : page * limit]})

    def _playback(self, policy: str) -> dict[str, str]:
        self._numbers += 1
        return {"id": f"playback{self._numbers}", "policy": policy}

    def _remove(self, things: list[dict[str, Any]], number: str) -> Reply:
        if not any(thing["id"] == number for thing in things):
            return _error(404, "not_found", "no such thing")
        things[:] = [thing for thing in things if thing["id"] != number]
        return Reply(204)

    async def _notice_end(self, key: str) -> None:
        """An encoder that has hung up has hung up, though `follow` has not looked yet."""
        if self._server is None:
            return
        with trio.move_on_after(1):
            while self._server.publishing(key):  # noqa: ASYNC110  a log file is looked at
                await trio.sleep(0.02)
        self.completed_early.append(self._server.publishing(key))
        if not self._server.publishing(key):
            await self.push_ends(key)

    async def _close_window(self, stream: dict[str, Any], seconds: float) -> None:
        await trio.sleep(seconds)
        if stream["id"] not in self._connected and stream["status"] == "active":
            await self._idle(stream)

    async def _idle(self, stream: dict[str, Any]) -> None:
        stream["status"] = "idle"
        self._changed.unpark_all()
        await self._tell("idle", stream["id"])
        await self._send(self.event("video.asset.live_stream_completed", f"asset-of-{stream['id']}",
                                    live_stream_id=stream["id"]))  # fmt: skip

    async def _tell(self, what: str, stream_id: str) -> None:
        await self._send(self.event(f"video.live_stream.{what}", stream_id))

    async def _send(self, event: dict[str, Any]) -> None:
        self.sent.append(event)
        if not (self.webhooks and self.webhook_url):
            return
        if self.early:
            await self.deliver(event)
        else:
            self._nursery.start_soon(self._deliver_or_not, event)

    async def _deliver_or_not(self, event: dict[str, Any]) -> None:
        with suppress(httpx.TransportError):  # Mux would try again, for 24 hours
            await self.deliver(event)

    def _by_key(self, key: str) -> dict[str, Any] | None:
        return next((each for each in self.streams.values() if each["stream_key"] == key), None)

    def _next_fault(self, line: str) -> Fault | None:
        for pattern, fault in self._faults:
            if fault.times and pattern.fullmatch(line):
                fault.times -= 1
                return fault
        return None


@asynccontextmanager
async def fake_mux() -> AsyncIterator[FakeMux]:
    """A running fake, for the time of the block."""
    fake = FakeMux()
    async with trio.open_nursery() as nursery:
        fake._nursery = nursery
        async with serve(fake._handle) as fake.api:
            yield fake
        nursery.cancel_scope.cancel()


def _problem(body: dict[str, Any]) -> str:
    if body.get("latency_mode", "standard") not in ("standard", "reduced", "low"):
        return "Invalid latency_mode"
    window = body.get("reconnect_window", 60)
    if not (isinstance(window, int | float) and 0 <= window <= 1800):
        return "reconnect_window must be between 0 and 1800"
    if len(body.get("passthrough", "")) > 255:
        return "passthrough must be at most 255 characters"
    return ""


def _json(status: int, body: dict[str, Any], headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    date = ("Date", formatdate(usegmt=True))
    return Reply(status, json.dumps(body).encode(), (("Content-Type", "application/json"), date, *headers))


def _error(status: int, kind: str, message: str) -> Reply:
    return _json(status, {"error": {"type": kind, "messages": [message]}})
