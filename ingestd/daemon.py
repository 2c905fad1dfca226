"""The daemon: the one place that knows everything. Its nursery tree is the architecture.

    daemon
     ├ signals           SIGTERM, SIGINT → stop
     ├ journal writer    one task, one thread, for all sessions
     ├ loop lag          how late the event loop is (`ingestd.live.lag`)
     ├ retention         old recordings go (`ingestd.live.retention`)
     ├ registry          streams, sessions and recordings into the database (`ingestd.registry`)
     ├ Mux               webhooks and warnings, where it is used (`ingestd.mux`)
     ├ webhooks          what happened, told to endpoints (`ingestd.notify`)
     ├ sessions          one a live stream (`ingestd.live.session`)
     ├ ingest listener   WebSocket publishers (`ingestd.sources.websocket`)
     └ control listener  HTTP (`ingestd.control`)

It stops from the outside in: no new publishers, sessions end in order, then the listeners.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import structlog
import trio
from attrs import frozen

from ingestd import __version__
from ingestd.address import Address
from ingestd.auth.authority import open_authority
from ingestd.config import Config
from ingestd.control import server
from ingestd.control.app import create_app
from ingestd.control.links import Links
from ingestd.credentials import CredentialError
from ingestd.errors import IngestdError
from ingestd.events import Events
from ingestd.live.audience import Audience
from ingestd.live.capabilities import Ffmpeg, find_ffmpeg
from ingestd.live.history import History, OnDisk
from ingestd.live.journal import JournalWriter
from ingestd.live.lag import LoopLag
from ingestd.live.orphans import end_orphans, marking
from ingestd.live.recovery import claimed, recover
from ingestd.live.retention import retain_forever
from ingestd.live.revival import revive
from ingestd.live.session import Session
from ingestd.live.streams import Streams
from ingestd.log_ring import LogRing
from ingestd.mux.service import open_mux
from ingestd.notify.webhooks import Webhooks
from ingestd.registry.database import DatabaseRefused
from ingestd.registry.registry import Registry
from ingestd.registry.seal import SealError
from ingestd.sources import websocket
from ingestd.sources.watching import Watching
from ingestd.state_lock import state_lock

log = structlog.get_logger(__name__)

#: Seconds that the database may take at the end; what it does not take then is written by the next daemon.
_PATIENCE = 5.0
#: Seconds that endpoints may take to hear of the end; what they do not, the next daemon tells them.
_LAST_WORDS = 2.0


@frozen(slots=True)
class Running:
    """A daemon that is up: where it listens, what runs, and how to stop it."""

    ingest: tuple[str, ...]
    control: tuple[str, ...]
    streams: Streams
    stop: Callable[[], None]


class CannotListen(IngestdError):
    """An address of the configuration cannot be listened on; the text says which, and why."""


class RegistryUnusable(IngestdError):
    """The database cannot be used as ``[database]`` has it; the text says why, and what to do."""


class StateUnusable(IngestdError):
    """``storage.state_dir`` cannot be made or written to; the text says why."""


async def serve(
    config: Config,
    ring: LogRing | None = None,
    *,
    handle_signals: bool = True,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until SIGTERM, SIGINT or `Running.stop`; then end every session within ``shutdown.timeout``.

    *ring* has the log events that ``/v1/logs`` shows (from `ingestd.logs.configure`).
    Raises `FfmpegMissing`, `StateUnusable`, `RegistryUnusable` and `CannotListen`. On return no process and
    no task of it is left.
    """
    state = config.storage.state_dir
    with ExitStack() as held:
        try:
            await trio.to_thread.run_sync(_make_writable, state)
            identity = held.enter_context(state_lock(state))
        except BlockingIOError as error:
            raise StateUnusable(
                f"storage.state_dir: another ingestd works in {state}; "
                "stop it, or give this one a directory of its own"
            ) from error
        except OSError as error:
            raise StateUnusable(
                f"storage.state_dir: cannot write to {state} ({error.strerror}); "
                "make it a directory that this user may write to"
            ) from error
        held.enter_context(marking(identity))
        await _serve(config, ring or LogRing(0), task_status, handle_signals=handle_signals)
    log.info("daemon_stopped")


async def _serve(
    config: Config, ring: LogRing, task_status: trio.TaskStatus[Running], *, handle_signals: bool
) -> None:
    """All of the daemon's life in its state directory."""
    stopping = trio.Event()
    async with trio.open_nursery() as services:
        if handle_signals:
            await services.start(_signals, stopping.set)
        async with trio.open_nursery() as starting:
            # A stop may come while FFmpeg is probed, which can take long.
            starting.start_soon(_cancel_when, stopping, starting.cancel_scope)
            ffmpeg = await find_ffmpeg(config.ffmpeg)
            starting.cancel_scope.cancel()
        if not stopping.is_set():
            await _run(config, ffmpeg, ring, services, stopping, task_status)
        services.cancel_scope.cancel()


async def _run(
    config: Config,
    ffmpeg: Ffmpeg,
    ring: LogRing,
    services: trio.Nursery,
    stopping: trio.Event,
    task_status: trio.TaskStatus[Running],
) -> None:
    """From the first listener to the end of the last session."""
    state = config.storage.state_dir
    log.info("daemon_starting", version=__version__, ffmpeg=ffmpeg.version, state_dir=str(state))
    # Before anything is read or written here: a writer of an earlier life may come to itself at any time.
    await end_orphans()
    writer = JournalWriter(config.journal.ack, config.journal.min_free)
    await services.start(writer.run)
    lag = LoopLag()
    services.start_soon(lag.run)
    events = Events(config.control.events)
    registry = _registry(config)
    directory = registry.directory
    try:
        # Streams that are not declared are known from here on, unless the database is away.
        await registry.open()
    except (DatabaseRefused, SealError) as error:
        raise RegistryUnusable(f"database: {error}") from error
    webhooks = Webhooks.of(config, registry.database, events)
    services.start_soon(webhooks.run)
    services.start_soon(retain_forever, config, directory, events)
    try:
        async with (
            open_authority(config, directory.life) as authority,
            open_mux(config, registry, events) as mux,
            trio.open_nursery() as sessions,
        ):
            streams = Streams(config, directory, ffmpeg.path, writer, sessions, events)
            revived = await revive(config, directory, ffmpeg.path, writer, events)
            # Before anybody can publish it is known what a dead daemon left; finishing it holds nobody up.
            await services.start(_recover, config, ffmpeg, revived)
            for session in revived:
                streams.start(session)
            history = History(streams, registry.ledger)
            services.start_soon(history.run)
            services.start_soon(streams.measure)
            services.start_soon(registry.forget)
            services.start_soon(registry.run, history.live, OnDisk(config))
            links, ending = Links(config), trio.Event()
            audience = Audience(config.viewers, streams)
            app = create_app(streams, audience, registry, ring, lag, authority, links, ending, webhooks, mux)
            bind = config.control.bind
            serving = services.start(server.serve, app, bind, ending, config.control.max_connections)
            control = addresses(await _listen("control", bind, serving))
            await services.start(audience.run)
            watching = Watching(config.ingest, config.viewers, audience, authority)
            receiver = services.start(websocket.serve, config.ingest, streams, authority.gate, watching)
            ingest = addresses(await _listen("ingest", config.ingest.bind, receiver))
            links.ingest_port = int(ingest[0].rpartition(":")[2])
            log.info("daemon_ready", ingest=ingest, control=control)
            task_status.started(Running(tuple(ingest), tuple(control), streams, stopping.set))
            await stopping.wait()
            log.info("daemon_stopping", live=streams.live)
            streams.drain()
            # A session ends itself within shutdown.timeout; this holds should that fail.
            sessions.cancel_scope.deadline = trio.current_time() + config.shutdown.timeout + 5
        await webhooks.drain(_LAST_WORDS)
    finally:
        # What the last sessions had to tell is still to be written.
        await registry.close(_PATIENCE)


def _registry(config: Config) -> Registry:
    try:
        return Registry.of(config)
    except (DatabaseRefused, CredentialError, SealError) as error:
        raise RegistryUnusable(f"database: {error}") from error


async def _recover(
    config: Config, ffmpeg: Ffmpeg, revived: list[Session], *, task_status: trio.TaskStatus[None]
) -> None:
    """Finish the recordings that no session goes on with."""
    state = config.storage.state_dir
    recordings = state / "recordings"
    taken: set[Path] = set()
    for session in revived:
        taken |= await trio.to_thread.run_sync(claimed, session.directory, recordings / session.stream)
    await recover(
        recordings, ffmpeg.path, state / "catalog", except_for=frozenset(taken), task_status=task_status
    )


async def _listen(
    table: str, bind: Address, start: Awaitable[list[trio.SocketListener]]
) -> list[trio.SocketListener]:
    try:
        return await start
    except OSError as error:
        cause = error.__cause__ if error.strerror is None else error  # trio's own, for several addresses
        why = getattr(cause, "strerror", None) or str(error)
        raise CannotListen(f"{table}.bind: cannot listen on {bind}: {why}") from error


def _make_writable(state: Path) -> None:
    state.mkdir(parents=True, exist_ok=True, mode=0o750)
    with tempfile.TemporaryFile(dir=state):
        pass


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


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
