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

from ingestd.live.journal_index import INDEX_MAGIC, parse_index
from ingestd.media.playlist import parse_media_playlist
from tests.support.processes import descendants

#: The sizes of the chunks that were accepted of each recorder, in order.
Sizes = list[list[int]]
#: The same, each with its number.
Numbered = list[list[tuple[int, int]]]


@frozen(slots=True)
class Life:
    """What a life of the daemon had come to.

    *counted* is the number of chunks that its API told last, *accepted* what the index says, *listed* the
    segments in the playlist, without one that FFmpeg listed because the life before had died: that may end
    anywhere, and is written anew.
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

    def numbered(self) -> Numbered:
        """The same with the chunks' numbers."""
        self._file.seek(0)
        return numbered_in(self._file.read())

    def close(self) -> None:
        self._file.close()


def accepted_in(index: bytes) -> Sizes:
    """The chunks in *index*; a torn record at its end was never acknowledged, and is none."""
    return [[size for _, size in recorder] for recorder in numbered_in(index)]


def numbered_in(index: bytes) -> Numbered:
    """As `accepted_in`, with each chunk's number."""
    assert index.startswith(INDEX_MAGIC), "this is no index of a journal"
    chunks: dict[tuple[int, int], int] = {}
    for entry in parse_index(index):
        # A long chunk comes in parts.
        of = entry.recorder, entry.chunk
        chunks[of] = chunks.get(of, 0) + entry.size
    recorders = sorted({recorder for recorder, _ in chunks})
    return [[(at, size) for (of, at), size in sorted(chunks.items()) if of == each] for each in recorders]


def listed_in(playlist: Path) -> list[str]:
    """The segments that *playlist* lists; none if it is not there yet."""
    if not playlist.exists():
        return []
    return [segment.uri for segment in parse_media_playlist(playlist.read_text("utf-8", "replace")).segments]


def resumed_of(given: Sequence[bytes], accepted: Numbered) -> list[list[bytes]]:
    """The bytes behind *accepted*, where the publisher numbers the chunks of one recorder, *given*.

    Behind each gap the journal goes on with another recorder: the headers stand in the place of the last
    chunk that is missing, and the next one begins where its random access point does. Raises AssertionError
    where the sizes or numbers fit nothing given.
    """
    found: list[list[bytes]] = []
    due = 0
    for at, chunks in enumerate(accepted):
        recorder: list[bytes] = []
        for place, (number, size) in enumerate(chunks):
            where = f"chunk {number} in recorder {at + 1} of the journal"
            headers, cut = bool(at) and place == 0, bool(at) and place == 1
            assert number == due or (headers and number >= due), f"{where}: number {due} was due"
            assert number < len(given), f"{where}: only {len(given)} were given"
            whole = b"".join(given[:2]) if headers else given[number]
            assert size == len(whole) or ((headers or cut) and size < len(whole)), f"{where}: {size} bytes"
            recorder.append(whole[:size] if headers else whole[len(whole) - size :])
            due = number + 1
        found.append(recorder)
    return found


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
