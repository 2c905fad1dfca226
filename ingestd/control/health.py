"""``/healthz``: the process is alive. ``/readyz``: it may be given work."""

from __future__ import annotations

from typing import Literal

import msgspec
from quart import Blueprint

from ingestd import __version__
from ingestd.control.contract import Answer, Routes, ok
from ingestd.live.streams import Streams


class Alive(msgspec.Struct):
    """The process answers; `live` is how many streams have a session."""

    status: Literal["ok"]
    version: str
    live: int


class Ready(msgspec.Struct):
    """Whether publishers may come."""

    status: Literal["ready", "draining"]


def blueprint(running: Streams) -> Blueprint:
    routes = Routes("health", "Health")

    @routes.get("/healthz", "Is it alive?", scope=None, answers=[ok(Alive)])
    async def healthz() -> Alive:
        """200 as long as the process answers: for a watchdog."""
        return Alive("ok", __version__, running.live)

    draining = Answer(status=503, about="It has been told to stop.", body=Ready)

    @routes.get("/readyz", "May it take work?", scope=None, answers=[ok(Ready), draining])
    async def readyz() -> tuple[Ready, int]:
        """For a load balancer."""
        return (Ready("draining"), 503) if running.draining else (Ready("ready"), 200)

    return routes.blueprint
