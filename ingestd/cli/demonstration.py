"""The demo as it runs: daemon, publisher and view in one nursery.

    demo
     ├ signals      the first one asks for the end
     ├ daemon       `ingestd.daemon.serve`, read through its HTTP API as any application reads it
     ├ publisher    the test card, over the WebSocket
     └ view         until the session has ended

The publisher ends first, then its session with all sinks, then the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import trio
from attrs import define, field
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ingestd import daemon
from ingestd.address import Address
from ingestd.cli.connect import reachable
from ingestd.cli.rates import Rates
from ingestd.cli.stopping import Stop
from ingestd.cli.view import labelled, plain_line, stream_view
from ingestd.cli.wording import clock, ending, size
from ingestd.client.api import Control
from ingestd.client.outbox import Buffer
from ingestd.client.publisher import Publisher
from ingestd.client.recorded import index
from ingestd.config import Config
from ingestd.errors import IngestdError, MediaError
from ingestd.log_ring import LogRing
from ingestd.sinks.hls import PLAYLIST
from ingestd.testcard import test_card_chunks
from ingestd.units import parse_address

_REFRESH = 0.5
_REFRESH_PLAIN = 2.0
_REFRESH_ENDING = 0.1
_OVER = ("idle", "ended", "failed")
_HOW_TO_END = Text("Ctrl-C to stop", "bold")
_ENDING = Text("ending: what has come is being written …", "bold yellow")


@define(eq=False)
class Demonstration:
    """Publishes to *stream* of *config* with *key*; *log* is where the daemon's log goes, to be said."""

    config: Config
    stream: str
    key: str
    console: Console
    log: Path
    seconds: float | None
    plain: bool
    ring: LogRing
    _stop: Stop = field(factory=Stop)
    _published: trio.Event = field(factory=trio.Event)
    _failure: str | None = None

    async def run(self) -> bool:
        """Until Ctrl-C, *seconds* or a failure; True if all went well. Raises what the daemon raises.

        On return no process is left. The third signal cuts it short: a later daemon finishes the recording.
        """
        status: dict[str, Any] | None = None
        async with trio.open_nursery() as signals:
            await signals.start(partial(self._stop.listen, signals.cancel_scope.cancel, patience=2))
            async with trio.open_nursery() as nursery:
                serve = partial(daemon.serve, self.config, self.ring, handle_signals=False)
                running = await nursery.start(serve)
                nursery.start_soon(self._publish, running)
                async with Control(f"http://{_near(running.control[0])}") as control:
                    status = await self._watch(control)
                running.stop()
            signals.cancel_scope.cancel()
        return await self._conclude(status)

    async def _publish(self, running: daemon.Running) -> None:
        card = test_card_chunks(running.streams.ffmpeg, seconds=self.seconds)
        try:
            async with aclosing(self._stop.until(card)) as chunks:
                url = f"ws://{_near(running.ingest[0])}/stream/live"
                published = await Publisher(url, self.key, client="demo", buffer=Buffer(drop=True)).run(
                    chunks
                )
            if not published.complete:
                self._failure = f"the publisher was {ending(published.code, published.reason)}"
        except IngestdError as error:
            self._failure = f"the publisher failed: {error}"
        finally:
            self._published.set()

    async def _watch(self, control: Control) -> dict[str, Any]:
        """Show the stream until its session has ended; returns its last status."""
        rates = Rates()
        overdue = trio.CancelScope()
        status: dict[str, Any] = {}
        with self._screen(control) as show, overdue:
            while True:
                published = self._published.is_set()
                status = await control.stream(self.stream)
                show(status, rates.take(status, trio.current_time()))
                if published and status["state"] in _OVER:
                    break
                if published and overdue.deadline == inf:
                    overdue.deadline = trio.current_time() + self.config.shutdown.timeout + 5
                if published:
                    await trio.sleep(_REFRESH_ENDING)
                else:
                    with trio.move_on_after(_REFRESH_PLAIN if self.plain else _REFRESH):
                        await self._published.wait()
        return status

    @contextmanager
    def _screen(self, control: Control) -> Iterator[Callable[[dict[str, Any], dict[str, float]], None]]:
        """What shows a status and its rates: a picture that changes in place, or lines."""
        about = self._about(control)
        if self.plain:
            for label, value in about:
                self._say(f"{label}: {value}")
            self._say("ready: Ctrl-C (or SIGTERM) stops")
            shown = -inf

            def line(status: dict[str, Any], rates: dict[str, float]) -> None:
                nonlocal shown
                now = trio.current_time()
                if now - shown >= _REFRESH_PLAIN - 0.1 or status["state"] in _OVER:
                    shown = now
                    self._say(plain_line(status, rates, datetime.now(UTC)))

            yield line
            return
        with Live(console=self.console, auto_refresh=False) as live:

            def picture(status: dict[str, Any], rates: dict[str, float]) -> None:
                live.update(self._picture(status, rates, about), refresh=True)

            yield picture

    def _picture(
        self, status: dict[str, Any], rates: dict[str, float], about: list[tuple[str, str]]
    ) -> RenderableType:
        view = stream_view(status, rates, datetime.now(UTC))
        if status["state"] in _OVER and self._published.is_set():
            return view
        ending_now = self._stop.wanted.is_set() or self._published.is_set()
        where = [labelled(label, Text(value, overflow="fold")) for label, value in about]
        return Group(view, "", *where, _ENDING if ending_now else _HOW_TO_END)

    def _about(self, control: Control) -> list[tuple[str, str]]:
        """Where to look, label by label."""
        pipeline = self.config.pipelines[self.config.streams[self.stream].pipeline]
        types = {sink.type for sink in pipeline.sinks}
        about = []
        if "hls" in types:
            about.append(("watch", f"{control.shown}/hls/{self.stream}/{PLAYLIST}"))
        if "file" in types:
            about.append(("record", f"{_short(self._recordings)}/"))
        return [*about, ("status", f"{control.shown}/v1/streams/{self.stream}"), ("log", _short(self.log))]

    @property
    def _recordings(self) -> Path:
        return self.config.storage.state_dir / "recordings" / self.stream

    async def _conclude(self, status: dict[str, Any] | None) -> bool:
        """Say what there is now, and what went wrong."""
        if status is None:
            self._say("cut short: the recording is finished when a daemon starts here again")
            return False
        for name in _recorded(status):
            path = self._recordings / name
            try:
                length = clock((await trio.to_thread.run_sync(index, path)).duration) + ", "
            except MediaError:
                length = ""  # an MP4: it says itself how long it is
            except OSError as error:
                self._failure = self._failure or f"{path}: {error.strerror}"
                continue
            self._say(f"recording: {_short(path)} ({length}{size(path.stat().st_size)})")
        playlist = self.config.storage.state_dir / "hls" / self.stream / PLAYLIST
        if any(sink["type"] == "hls" and sink.get("last_segment") for sink in status["sinks"]):
            self._say(f"playlist:  {_short(playlist)}")
        self._failure = self._failure or status.get("cause")
        troubles = [
            f"{sink['name']}: {sink['last_error']}" for sink in status["sinks"] if sink["state"] == "failed"
        ]
        for trouble in [self._failure, *troubles] if self._failure else troubles:
            self._say(f"failed: {trouble}")
        self._say(f"log:       {_short(self.log)}")
        return not (self._failure or troubles)

    def _say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)


def _recorded(status: dict[str, Any]) -> list[str]:
    names = [sink.get("file") for sink in status["sinks"]]
    names += [name for sink in status["sinks"] for name in sink.get("files", [])]
    return [name for name in names if name]


def _near(bound: str) -> Address:
    host, port = parse_address(bound)
    return reachable(Address(host=host, port=port), "bind")


def _short(path: Path) -> str:
    """*path* as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
