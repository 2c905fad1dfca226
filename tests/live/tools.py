"""What the live tests share: made-up frames, a running journal, a spool that is fed a capture."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from ingestd.config import HubConfig, JournalConfig
from ingestd.live.batch import Batch, Configuration, Mark
from ingestd.live.hub import Hub, Subscription
from ingestd.live.journal import Journal, JournalWriter
from ingestd.live.journal_index import parse_index
from ingestd.live.notes import Notes
from ingestd.live.replay import JournalReplay
from ingestd.live.spool import Spool
from ingestd.media.frames import NS_PER_MS, Frame, Kind, Track

VIDEO = Track(number=1, kind=Kind.VIDEO, codec="vp8", width=64, height=48)
AUDIO = Track(number=2, kind=Kind.AUDIO, codec="opus", private=b"OpusHead", sample_rate=48000, channels=2)
BOTH = Configuration((VIDEO, AUDIO))

#: A frame and where it stands, with the payload as bytes: comparable.
Seen = tuple[int, Configuration, int, int, bool, bytes]


def hub_config(*, memory: int = 2**25, window: float = 60.0, max_lag: float = 8.0) -> HubConfig:
    """A hub's bounds; smaller than a configuration file may ask for."""
    config = HubConfig()
    for name, value in (("memory", memory), ("window", window), ("max_lag", max_lag)):
        object.__setattr__(config, name, value)  # frozen, and validated for people
    return config


class WitnessedHub(Hub):
    """A hub that remembers everything that was ever published, in `live`."""

    def __init__(self, config: HubConfig) -> None:
        super().__init__(config)
        self.live: list[Seen] = []

    def publish(
        self, configuration: Configuration, frames: tuple[Frame, ...], marks: tuple[Mark, ...]
    ) -> None:
        if frames:
            self.live += seen(Batch(configuration, frames, self.next_seq, 0))
        super().publish(configuration, frames, marks)


class Source:
    """Publishes made-up groups of pictures to a hub without a journal, one batch a call."""

    def __init__(self, hub: Hub, configuration: Configuration = BOTH) -> None:
        self.hub = hub
        self.configuration = configuration
        self.time = 0

    def publish(self, *, key: bool = False, payload: bytes = b"x" * 10, frames: int = 1) -> None:
        """One batch of *frames* frames 33 ms apart, the first a keyframe with *key*."""
        batch, marks = [], []
        for index in range(frames):
            starts = key and index == 0
            batch.append(Frame(1, self.time, starts, payload))
            if starts:
                marks.append(Mark(self.hub.next_seq, self.time, self.configuration))
            self.time += 33 * NS_PER_MS
        self.hub.publish(self.configuration, tuple(batch), tuple(marks))


def seen(batch: Batch) -> list[Seen]:
    """The frames of *batch* in comparable form."""
    return [
        (batch.first + index, batch.configuration, f.track, f.timestamp, f.keyframe, bytes(f.payload))
        for index, f in enumerate(batch.frames)
    ]


async def drain(subscription: Subscription) -> list[Seen]:
    """All that is to come."""
    frames: list[Seen] = []
    while True:
        try:
            frames += seen(await subscription.receive())
        except trio.EndOfChannel:
            return frames


async def at_hand(subscription: Subscription) -> list[Batch]:
    """The batches that can be had without waiting."""
    batches: list[Batch] = []
    while subscription.cursor < subscription._hub.next_seq:
        # The journal is read by a thread, which may take its time on a machine that is busy.
        with trio.move_on_after(1) as scope:
            batches.append(await subscription.receive())
        if scope.cancelled_caught:
            break
    return batches


@asynccontextmanager
async def journal_writer(ack: str = "written", min_free: int = 0) -> AsyncIterator[JournalWriter]:
    """A running writer."""
    async with trio.open_nursery() as nursery:
        writer = JournalWriter(ack, min_free)  # type: ignore[arg-type]
        await nursery.start(writer.run)
        yield writer
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def spool(
    directory: Path,
    *,
    name: str = "source",
    hub: HubConfig | None = None,
    max_size: int = 2**30,
    config: JournalConfig | None = None,
    keep: bool = False,
    again: bool = False,
) -> AsyncIterator[Spool]:
    """A spool with a journal in *directory*; with *again* one that another left there."""
    async with journal_writer() as writer:
        opened = Journal.reopen if again else Journal.create
        journal = opened(writer, directory, name, max_size)
        made = Spool.create(
            "cam",
            name,  # type: ignore[arg-type]
            journal,
            hub or HubConfig(),
            config or JournalConfig(),
            max_frame=2**24,
            keep=keep,
            notes=Notes(directory / f"{name}.json"),
        )
        made.hub = WitnessedHub(made.hub.config)
        made.hub.replay = JournalReplay(journal, made.intake, made.hub)
        try:
            yield made
        finally:
            journal.close()


async def feed(spool: Spool, chunks: Iterable[bytes]) -> None:
    """Take all *chunks*."""
    for chunk in chunks:
        await spool.take(chunk)


Record = tuple[int, int, int, int]


def read_index(path: Path) -> list[Record]:
    """The whole records of an index: chunk, recorder, size, offset."""
    return [(e.chunk, e.recorder, e.size, e.offset) for e in parse_index(path.read_bytes())]


def acknowledged(directory: Path, prefix: str = "source") -> list[bytes]:
    """The acknowledged chunks as the index says, out of the recorders' files."""
    chunks: dict[int, bytes] = {}
    for chunk, recorder, size, offset in read_index(directory / f"{prefix}.index"):
        with (directory / f"{prefix}-{recorder:04}.media").open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        assert len(data) == size
        chunks[chunk] = chunks.get(chunk, b"") + data
    return [chunks[number] for number in sorted(chunks)]
