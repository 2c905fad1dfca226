"""The daemon: the one place that knows everything. Its nursery tree is the architecture:

    daemon
     ├ signals           SIGTERM, SIGINT → stop
     ├ journal writer    one task, one thread, for all sessions
     ├ sessions          one a live stream (`ingestd.live.session`)
     ├ ingest listener   WebSocket publishers (`ingestd.sources.websocket`)
     └ control listener  HTTP (`ingestd.control`)

It stops from the outside in: no new publishers, sessions end in order, then the listeners.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import hypercorn.config
import hypercorn.trio
import structlog
import trio
from attrs import frozen

from ingestd import __version__
from ingestd.config import Address, Config
from ingestd.control.app import create_app
from ingestd.live.capabilities import find_ffmpeg
from ingestd.live.journal import JournalWriter
from ingestd.live.recording import recover
from ingestd.live.streams import Streams
from ingestd.sources import websocket

log = structlog.get_logger(__name__)


@frozen(slots=True)
class Running:
    """A daemon that is up: where it listens, what runs, and how to stop it."""

    ingest: tuple[str, ...]
    control: tuple[str, ...]
    streams: Streams
    stop: Callable[[], None]


async def serve(
    config: Config,
    *,
    handle_signals: bool = True,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until SIGTERM, SIGINT or `Running.stop`; then end every session within ``shutdown.timeout``.

    Raises `FfmpegMissing`, and OSError for an address that cannot be listened on. On return no
    process and no task of it is left.
    """
    state = config.storage.state_dir
    await trio.to_thread.run_sync(lambda: state.mkdir(parents=True, exist_ok=True, mode=0o750))
    ffmpeg = await find_ffmpeg(config.ffmpeg)
    log.info("daemon_starting", version=__version__, ffmpeg=ffmpeg.version, state_dir=str(state))
    await recover(state / "recordings", ffmpeg.path)
    stopping = trio.Event()
    async with trio.open_nursery() as services:
        if handle_signals:
            await services.start(_signals, stopping.set)
        writer = JournalWriter(config.journal.ack, config.journal.min_free)
        await services.start(writer.run)
        async with trio.open_nursery() as sessions:
            streams = Streams(config, ffmpeg.path, writer, sessions)
            control = await services.start(_control, config, streams)
            ingest = addresses(await services.start(websocket.serve, config.ingest, streams))
            log.info("daemon_ready", ingest=ingest, control=control)
            task_status.started(Running(tuple(ingest), tuple(control), streams, stopping.set))
            await stopping.wait()
            log.info("daemon_stopping", live=streams.live)
            streams.drain()
            # A session ends itself within shutdown.timeout; this holds should that fail.
            sessions.cancel_scope.deadline = trio.current_time() + config.shutdown.timeout + 5
        services.cancel_scope.cancel()
    log.info("daemon_stopped")


def addresses(listeners: list[trio.SocketListener]) -> list[str]:
    """``host:port`` of each listener, as it really is: port 0 has become a free one."""
    names = (listener.socket.getsockname() for listener in listeners)
    return [str(Address(host=name[0], port=name[1])) for name in names]


async def _signals(stop: Callable[[], None], *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("signal_received", signal=signal.Signals(number).name)
            stop()


async def _control(config: Config, streams: Streams, *, task_status: trio.TaskStatus[list[str]]) -> None:
    server = hypercorn.config.Config()
    server.bind = [str(config.control.bind)]
    server.accesslog = None
    server.errorlog = None
    server.graceful_timeout = 2
    server.include_server_header = False
    app: Any = create_app(streams)
    async with trio.open_nursery() as nursery:
        # Hypercorn ends on this trigger; it must not see our signals.
        serve = partial(hypercorn.trio.serve, app, server, shutdown_trigger=trio.sleep_forever)
        addresses: list[str] = await nursery.start(serve)
        task_status.started([address.removeprefix("http://") for address in addresses])
