"""The daemon's lives: what each had come to when it ended, and what it has left behind.

The journal's index is read from outside, as `ingestd.live.journal` documents it: what it says at the moment
of a death is what was accepted.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from attrs import define, field, frozen

from ingestd.live.journal import INDEX_MAGIC, INDEX_RECORD
from ingestd.media.playlist import parse_media_playlist
from tests.support.processes import descendants

#: The sizes of the chunks that were accepted of each recorder, in order.
Sizes = list[list[int]]


@frozen(slots=True)
class Life:
    """What a life of the daemon had come to.

    *counted* is the number of chunks that its API told last, *accepted* what the index says, *listed* the
    segments in the playlist.
    """

    session: str
    counted: int
    accepted: Sizes
    listed: list[str]


@define(eq=False)
class Left:
    """Processes that may outlive their daemon. Held by descriptors: a number may come to mean another."""

    _held: dict[str, int] = field(factory=dict)

    def hold(self, pid: int) -> None:
        """Hold the descendants that process *pid* has now."""
        for child, command in descendants(pid).items():
            with suppress(ProcessLookupError):
                self._held[f"{child} {command}"] = os.pidfd_open(child)

    def signal(self, number: signal.Signals) -> None:
        """Send *number* to all of them that are there."""
        for fd in self._held.values():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)

    def alive(self) -> list[str]:
        """Number and command of each that runs: one that waits to be reaped does not."""
        poll = select.poll()
        for fd in self._held.values():
            poll.register(fd, select.POLLIN)
        gone = {fd for fd, _ in poll.poll(0)}
        return [name for name, fd in self._held.items() if fd not in gone]

    def end(self) -> None:
        """SIGKILL, and forget them."""
        self.signal(signal.SIGKILL)
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()


@define(eq=False)
class Index:
    """The source journal's index of *session*. It stays readable when the session has removed it."""

    session: str
    _file: BinaryIO

    @classmethod
    def newest(cls, state_dir: Path) -> Index:
        """Of the stream's newest session; raises AssertionError if there is none."""
        found = sorted((state_dir / "journal" / "cam").glob("*/source.index"))
        assert found, "there is no journal"
        return cls(found[-1].parent.name, found[-1].open("rb"))

    def accepted(self) -> Sizes:
        """What it says now."""
        self._file.seek(0)
        return accepted_in(self._file.read())

    def close(self) -> None:
        self._file.close()


def accepted_in(index: bytes) -> Sizes:
    """The chunks in *index*; a torn record at its end was never acknowledged, and is none."""
    assert index.startswith(INDEX_MAGIC), "this is no index of a journal"
    whole = len(index) - (len(index) - len(INDEX_MAGIC)) % INDEX_RECORD.size
    chunks: dict[tuple[int, int], int] = {}
    for number, recorder, size, _, _ in INDEX_RECORD.iter_unpack(index[len(INDEX_MAGIC) : whole]):
        # A long chunk comes in parts.
        chunks[recorder, number] = chunks.get((recorder, number), 0) + size
    recorders = sorted({recorder for recorder, _ in chunks})
    return [[size for (of, _), size in sorted(chunks.items()) if of == recorder] for recorder in recorders]


def listed_in(playlist: Path) -> list[str]:
    """The segments that *playlist* lists; none if it is not there yet."""
    if not playlist.exists():
        return []
    return [segment.uri for segment in parse_media_playlist(playlist.read_text("utf-8", "replace")).segments]


def accepted_of(sent: Sequence[Sequence[bytes]], accepted: Sizes) -> list[list[bytes]]:
    """The chunks that are behind *accepted*: what was *sent*, recorder by recorder.

    Of a recorder nothing may have been accepted. Raises AssertionError where the sizes fit nothing sent.
    """
    found: list[list[bytes]] = []
    waiting = iter(sent)
    for number, sizes in enumerate(accepted, 1):
        for chunks in waiting:
            if [len(chunk) for chunk in chunks[: len(sizes)]] == sizes:
                found.append(list(chunks[: len(sizes)]))
                break
        else:
            raise AssertionError(f"recorder {number} in the journal is none that was sent: {sizes[:5]} …")
    return found
