"""What one life of the daemon leaves to the next, on made data: what is wrong is found, and only that."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from chaos.checks import CHECKS, Violation, check_accepted, check_lives
from chaos.compare import recordings
from chaos.lives import Left, Life, accepted_in, accepted_of, listed_in, numbered_in, resumed_of
from ingestd.live.journal_index import INDEX_MAGIC, INDEX_RECORD
from tests.support.daemon import Daemon


def checks(found: Iterable[Violation]) -> list[str]:
    """Which checks failed."""
    named = [violation.check for violation in found]
    assert set(named) <= set(CHECKS)
    return named


def index(*records: tuple[int, int, int]) -> bytes:
    """A journal's index with (chunk number, recorder, size)."""
    return INDEX_MAGIC + b"".join(INDEX_RECORD.pack(*record, 0, 0.0) for record in records)


def test_an_index_tells_the_chunks_of_each_recorder() -> None:
    """Parts of a chunk are one chunk; a torn record at the end was never acknowledged."""
    whole = index((0, 1, 10), (1, 1, 20), (2, 2, 7), (3, 2, 128), (3, 2, 5))
    assert accepted_in(whole) == [[10, 20], [7, 133]]
    assert accepted_in(whole + INDEX_RECORD.pack(4, 2, 9, 0, 0.0)[:-1]) == [[10, 20], [7, 133]]
    assert accepted_in(index()) == []
    with pytest.raises(AssertionError, match="no index"):
        accepted_in(b"something else altogether")


def test_accepted_chunks_are_those_that_were_sent() -> None:
    """Of a recorder that was sent nothing may have been accepted, and of the last chunks of each."""
    sent = [[b"a", b"bb", b"ccc"], [b"dddd"], [b"eeeee", b"ff"]]
    assert accepted_of(sent, [[1, 2], [5]]) == [[b"a", b"bb"], [b"eeeee"]]
    assert accepted_of(sent, []) == []
    with pytest.raises(AssertionError, match="recorder 2"):
        accepted_of(sent, [[1, 2], [6]])


def test_numbered_chunks_are_those_that_were_given() -> None:
    """Behind a gap come the headers, in the last lost one's place, then the rest of a chunk."""
    given = [b"HHHa", b"bb", b"cc", b"dd", b"eeee", b"ff"]
    whole = numbered_in(index((0, 1, 4), (1, 1, 2), (3, 2, 3), (4, 2, 1), (5, 2, 2)))
    assert resumed_of(given, whole) == [[b"HHHa", b"bb"], [b"HHH", b"e", b"ff"]]
    assert resumed_of(given, []) == []
    # A chunk in two parts is one; the bit that says so is none of its size.
    assert numbered_in(index((0, 1, 3 | 1 << 31), (0, 1, 1))) == [[(0, 4)]]


@pytest.mark.parametrize(
    ("records", "wrong"),
    [
        ([(0, 1, 4), (2, 1, 2)], "number 1 was due"),
        ([(0, 1, 4), (0, 1, 4)], "8 bytes"),
        ([(0, 1, 4), (0, 2, 3)], "number 1 was due"),
        ([(0, 1, 4), (1, 1, 1)], "1 bytes"),
        ([(0, 1, 4), (1, 1, 2), (2, 1, 2)], "only 2 were given"),
    ],
    ids=["missing", "twice", "again", "short", "invented"],
)
def test_a_numbered_chunk_that_is_missing_twice_or_short_is_found(
    records: list[tuple[int, int, int]], wrong: str
) -> None:
    """Whatever the journal has is held to the numbers, and the sizes, of what was given."""
    with pytest.raises(AssertionError, match=wrong):
        resumed_of([b"HHHa", b"bb"], numbered_in(index(*records)))


def test_a_byte_that_was_accepted_and_is_not_kept_is_found(tmp_path: Path) -> None:
    """Recorder by recorder: bytes in another one's file are no less missing."""
    raw = [tmp_path / "1.webm", tmp_path / "2.webm"]
    raw[0].write_bytes(b"onetwo")
    raw[1].write_bytes(b"three")
    assert list(check_accepted(raw, [[b"one", b"two"], [b"three"]])) == []
    assert checks(check_accepted(raw, [[b"one"], [b"two", b"three"]])) == ["accepted", "accepted"]
    assert checks(check_accepted(raw, [[b"one", b"two"], [b"threes"]])) == ["accepted"]
    assert checks(check_accepted(raw[:1], [[b"one", b"two"], [b"three"]])) == ["accepted"]


def test_raw_recordings_are_in_the_order_of_their_recorders(tmp_path: Path) -> None:
    """The tenth does not come after the first."""
    running = Daemon(tmp_path, None, "", "", tmp_path)  # type: ignore[arg-type]  # none runs
    below = running.state_dir / "recordings" / "cam"
    below.mkdir(parents=True)
    for name in ("x.mkv", *(f"x-source-{number}.webm" for number in range(1, 12))):
        (below / name).touch()
    raw, others = recordings(running)
    assert [path.name for path in raw] == [f"x-source-{number}.webm" for number in range(1, 12)]
    assert [path.name for path in others] == ["x.mkv"]


FIRST = Life("s1", 3, [[10, 20, 30]], ["0.ts"])


@pytest.mark.parametrize(
    ("following", "found"),
    [
        (Life("s1", 5, [[10, 20, 30], [7, 8]], ["0.ts", "1.ts"]), []),
        (Life("s1", 3, [[10, 20, 30]], ["0.ts"]), []),
        (Life("s1", 4, [[10, 20], [7, 8]], ["0.ts"]), ["accepted"]),
        (Life("s1", 0, [], ["0.ts"]), ["accepted"]),
        (Life("s1", 6, [[10, 20, 30], [7, 8]], ["0.ts"]), ["accepted"]),
        (Life("s2", 1, [[7]], ["0.ts"]), ["state"]),
        (Life("s1", 3, [[10, 20, 30]], []), ["hls"]),
        (Life("s1", 3, [[10, 20, 30]], ["1.ts", "0.ts"]), ["hls"]),
    ],
    ids=[
        "goes on",
        "alone",
        "chunk lost",
        "all lost",
        "counted early",
        "session",
        "list lost",
        "list changed",
    ],
)
def test_a_life_goes_on_where_the_last_one_ended(following: Life, found: list[str]) -> None:
    """With its session, all that was accepted, and the playlist."""
    assert checks(check_lives([FIRST, following])) == found


def test_segments_are_listed_in_order(tmp_path: Path) -> None:
    """A playlist that is not there yet lists none."""
    playlist = tmp_path / "index.m3u8"
    assert listed_in(playlist) == []
    playlist.write_text("#EXTM3U\n#EXTINF:2.0,\na-0.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:2.0,\na-1.ts\n")
    assert listed_in(playlist) == ["a-0.ts", "a-1.ts"]


@pytest.mark.usefixtures("no_processes_left")
def test_what_is_left_is_seen_and_ended() -> None:
    """A process that stands still is there; one that has ended is not, though nobody has reaped it."""
    shell = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & sleep 61 & wait"])
    left = Left()
    try:
        while len(left.alive()) < 2:
            left.hold(shell.pid)
        left.signal(signal.SIGSTOP)
        assert len(left.alive()) == 2
        pids = [int(name.split()[0]) for name in left.alive()]
        os.kill(pids[0], signal.SIGKILL)
        while len(left.alive()) == 2:
            pass
        (alive,) = left.alive()
        assert alive.split()[0] == str(pids[1])
    finally:
        left.end()
        shell.wait()
    assert left.alive() == []
