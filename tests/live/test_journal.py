"""The journal: what is acknowledged is on disk, whatever the disk does."""

# ruff: noqa: ASYNC240  the tests look at small files

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from ingestd.live import journal as module
from ingestd.live.journal import Journal, JournalFull, JournalReleased, JournalWriter
from ingestd.live.journal_index import INDEX_RECORD
from tests.live.tools import acknowledged, journal_writer, read_index

MIB = 2**20


def begin(writer: JournalWriter, directory: Path, max_size: int = 2**30) -> Journal:
    return Journal.create(writer, directory, "source", max_size)


async def test_bytes_on_disk_are_the_bytes_appended(tmp_path: Path) -> None:
    """The file holds the chunks back to back, and the index says where each one lies."""
    rng = random.Random(1)
    chunks = [rng.randbytes(rng.choice([1, 2, 100, 70_000])) for _ in range(60)]
    async with journal_writer() as writer:
        journal = begin(writer, tmp_path)
        for number, chunk in enumerate(chunks):
            await journal.append(chunk)
            assert (tmp_path / "source-0001.media").read_bytes() == b"".join(chunks[: number + 1])
        await journal.append(b"")
        assert await journal.read(0, 3, 1000) == b"".join(chunks)[3:1003]
        journal.close()
        journal.close()
    assert acknowledged(tmp_path) == chunks
    assert [record[0] for record in read_index(tmp_path / "source.index")] == list(range(60))
    assert journal.statistics().chunks == 60
    assert journal.statistics().bytes == sum(map(len, chunks))


async def test_a_recorder_begins_a_file_at_its_byte(tmp_path: Path) -> None:
    """A chunk is cut at each byte at which a recorder begins, be it the first one, be it several."""
    async with journal_writer() as writer:
        journal = begin(writer, tmp_path)
        await journal.append(b"aaa", [0])
        await journal.append(b"aabbb", [2])
        await journal.append(b"cc", [0])
        await journal.append(b"cdddee", [1, 4])
        journal.close()
    contents = [path.read_bytes() for path in sorted(tmp_path.glob("*.media"))]
    assert contents == [b"aaaaa", b"bbb", b"ccc", b"ddd", b"ee"]
    assert read_index(tmp_path / "source.index") == [
        (0, 1, 3, 0),
        (1, 1, 2, 3),
        (1, 2, 3, 0),
        (2, 3, 2, 0),
        (3, 3, 1, 2),
        (3, 4, 3, 0),
        (3, 5, 2, 0),
    ]
    assert acknowledged(tmp_path) == [b"aaa", b"aabbb", b"cc", b"cdddee"]


async def test_an_existing_journal_is_not_overwritten(tmp_path: Path) -> None:
    """A journal of the same name is left as it is."""
    (tmp_path / "source.index").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        begin(JournalWriter(), tmp_path)
    assert (tmp_path / "source.index").read_bytes() == b"old"


async def test_bounded_by_max_size(tmp_path: Path) -> None:
    """A chunk that would go over the bound is refused whole; a smaller one, or after a release, is taken."""
    async with journal_writer() as writer:
        journal = begin(writer, tmp_path, 4 * MIB)
        await journal.append(bytes(4 * MIB - 10))
        with pytest.raises(JournalFull, match=rf"bound of {4 * MIB} bytes .journal\.max_size."):
            await journal.append(bytes(11))
        await journal.append(bytes(10))
        await journal.release(0, 3 * MIB + 17)
        assert journal.kept_bytes == MIB
        await journal.append(bytes(MIB))
        journal.close()
    assert len(acknowledged(tmp_path)) == 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "ingestd-test", str(mount)], capture_output=True
    )
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.mark.parametrize("ack", ["written", "synced"])
async def test_a_full_disk(small_disk: Path, ack: str) -> None:
    """On ENOSPC the files end with the last acknowledged chunk; with space again the journal goes on."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    rng = random.Random(1)
    taken: list[bytes] = []
    async with journal_writer(ack) as writer:
        journal = begin(writer, small_disk)

        async def fill() -> None:
            while True:
                chunk = rng.randbytes(rng.randint(1, 60_000))
                await journal.append(chunk)
                taken.append(chunk)

        with pytest.raises(JournalFull, match="No space left on device"):
            await fill()
        assert len(taken) > 3
        assert acknowledged(small_disk) == taken
        assert (small_disk / "source-0001.media").read_bytes() == b"".join(taken)
        (small_disk / "filler").write_bytes(b"")
        # A recorder that begins now finds no space, and leaves no file.
        with pytest.raises(JournalFull):
            await journal.append(rng.randbytes(500_000), [100])
        assert sorted(path.name for path in small_disk.glob("*.media")) == ["source-0001.media"]
        assert (small_disk / "source-0001.media").read_bytes() == b"".join(taken)
        ballast.unlink()
        for start in ([], [0]):
            chunk = rng.randbytes(20_000)
            await journal.append(chunk, start)
            taken.append(chunk)
        journal.close()
    assert acknowledged(small_disk) == taken
    assert len(list(small_disk.glob("*.media"))) == 2


async def test_a_limit_on_the_file_size(tmp_path: Path) -> None:
    """EFBIG in the middle of a chunk is a full journal too: nothing of the chunk stays."""
    code = """
import resource, sys, trio
from pathlib import Path
from ingestd.live.journal import JournalFull
from tests.live.tools import acknowledged, journal_writer
from ingestd.live.journal import Journal
async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    directory = Path(sys.argv[1])
    async with journal_writer() as writer:
        journal = Journal.create(writer, directory, "source", 2**30)
        for _ in range(3):
            await journal.append(b"a" * 30_000)
        try:
            await journal.append(b"b" * 30_000)
        except JournalFull as full:
            print(full)
        await journal.append(b"c" * 10_000)
    assert acknowledged(directory) == [b"a" * 30_000] * 3 + [b"c" * 10_000]
trio.run(main)
"""
    done = await trio.to_thread.run_sync(
        lambda: subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    )
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    assert (tmp_path / "source-0001.media").stat().st_size == 100_000


async def test_min_free_is_left_to_others(tmp_path: Path) -> None:
    """With less than journal.min_free on the disk the journal counts as full."""
    async with journal_writer(min_free=2**60) as writer:
        journal = begin(writer, tmp_path)
        with pytest.raises(JournalFull, match=r"journal\.min_free"):
            await journal.append(b"chunk")
        writer.min_free = 1
        await journal.append(b"chunk")
        journal.close()
    assert acknowledged(tmp_path) == [b"chunk"]


async def test_release_gives_the_disk_back_and_keeps_offsets(tmp_path: Path) -> None:
    """Released bytes take no blocks any more; what is kept, and what comes behind, reads as before."""
    data = random.Random(1).randbytes(12 * MIB)
    path = tmp_path / "source-0001.media"
    async with journal_writer() as writer:
        journal = begin(writer, tmp_path)
        for at in range(0, len(data), MIB):
            await journal.append(data[at : at + MIB])
        before = path.stat().st_blocks
        await journal.release(0, 5 * MIB + 12_345, keep=300)
        assert path.stat().st_blocks <= before - 4 * MIB // 512
        assert path.stat().st_size == len(data)
        assert journal.kept_bytes == 7 * MIB + 64 * 2**10  # the init segment stays with its 64 KiB
        await journal.release(0, 4 * MIB, keep=300)
        await journal.release(0, 9 * MIB, keep=300)
        assert journal.kept_bytes == 3 * MIB + 64 * 2**10
        assert path.stat().st_blocks <= before - 8 * MIB // 512
        assert await journal.read(0, 0, 300) == data[:300]
        assert await journal.read(0, 9 * MIB, 2**30) == data[9 * MIB :]
        with pytest.raises(JournalReleased):
            await journal.read(0, 9 * MIB - 1, 10)
        await journal.append(b"behind")
        assert await journal.read(0, 12 * MIB, 100) == b"behind"
        journal.close()


async def test_release_of_earlier_recorders(tmp_path: Path) -> None:
    """Up to a byte of the third recorder means all of the first two as well."""
    async with journal_writer() as writer:
        journal = begin(writer, tmp_path)
        for _ in range(3):
            await journal.append(os.urandom(3 * MIB), [0])
        await journal.release(2, MIB + 1)
        sizes = [file.path.stat().st_blocks * 512 // MIB for file in journal.recorders]
        assert sizes == [0, 0, 2]
        assert journal.kept_bytes == 2 * MIB
        journal.close()


async def test_a_slow_disk_does_not_stall_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a write hangs, also the one that begins a file, other tasks run."""
    release = threading.Event()
    write_one = module._write_one

    def hanging(write: module._Write) -> None:
        assert release.wait(30)
        write_one(write)

    monkeypatch.setattr(module, "_write_one", hanging)
    async with journal_writer() as writer, trio.open_nursery() as nursery:
        journal = begin(writer, tmp_path)
        nursery.start_soon(journal.append, b"slow")
        for _ in range(100):
            await trio.sleep(0.001)
        assert journal.chunks == 0
        assert not list(tmp_path.glob("*.media"))
        release.set()
    assert acknowledged(tmp_path) == [b"slow"]
    journal.close()


async def test_journals_are_written_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of many sessions that wait at the same time are written by one call of the thread."""
    batches: list[int] = []
    write_all = JournalWriter._write_all

    def counting(self: JournalWriter, batch: list[module._Write]) -> None:
        batches.append(len(batch))
        write_all(self, batch)

    monkeypatch.setattr(JournalWriter, "_write_all", counting)
    async with journal_writer() as writer:
        journals = []
        for number in range(20):
            (tmp_path / str(number)).mkdir()
            journals.append(begin(writer, tmp_path / str(number)))
        async with trio.open_nursery() as nursery:
            for journal in journals:
                nursery.start_soon(journal.append, b"chunk")
        for journal in journals:
            journal.close()
    assert sum(batches) == 20
    assert len(batches) <= 2
    assert all(acknowledged(tmp_path / str(number)) == [b"chunk"] for number in range(20))


async def test_one_full_journal_does_not_touch_the_others(tmp_path: Path) -> None:
    """In one batch the journal that fails fails alone."""
    async with journal_writer() as writer, trio.open_nursery() as nursery:
        journals = []
        for number in range(3):
            (tmp_path / str(number)).mkdir()
            journals.append(begin(writer, tmp_path / str(number)))
        os.close(journals[1].index_fd)
        journals[1].index_fd = os.open("/dev/full", os.O_WRONLY)
        failed = []

        async def append(journal: Journal) -> None:
            try:
                await journal.append(b"chunk")
            except JournalFull:
                failed.append(journal)

        for journal in journals:
            nursery.start_soon(append, journal)
    assert failed == [journals[1]]
    assert not list((tmp_path / "1").glob("*.media"))
    for journal in journals:
        journal.close()


async def test_synced_means_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ack = "synced" media, index and a new file's directory are synced before the acknowledgement."""
    synced: list[str] = []
    for name in ("fdatasync", "fsync"):
        real = getattr(os, name)

        def sync(fd: int, real: object = real) -> None:
            synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
            real(fd)  # type: ignore[operator]

        monkeypatch.setattr(os, name, sync)
    for ack in ("written", "synced"):
        directory = tmp_path / ack
        directory.mkdir()
        async with journal_writer(ack) as writer:
            journal = begin(writer, directory)
            await journal.append(b"one")
            assert synced == (["source-0001.media", "source.index", "synced"] if ack == "synced" else [])
            synced.clear()
            await journal.append(b"two")
            assert synced == (["source-0001.media", "source.index"] if ack == "synced" else [])
            journal.close()


async def test_a_failed_sync_is_no_acknowledgement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When fdatasync fails the chunk is taken back."""

    def failing(fd: int) -> None:
        raise OSError(5, "Input/output error")

    async with journal_writer("synced") as writer:
        journal = begin(writer, tmp_path)
        await journal.append(b"one")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", failing)
            with pytest.raises(JournalFull, match="Input/output error"):
                await journal.append(b"two")
        await journal.append(b"three")
        journal.close()
    assert acknowledged(tmp_path) == [b"one", b"three"]
    assert (tmp_path / "source-0001.media").read_bytes() == b"onethree"


async def test_an_append_is_not_cancelled_half_way(tmp_path: Path) -> None:
    """A cancelled append has still written its chunk, and the journal knows it."""
    async with journal_writer() as writer:
        journal = begin(writer, tmp_path)
        with trio.CancelScope() as scope:
            scope.cancel()
            await journal.append(b"chunk")
        assert journal.chunks == 1
        await journal.append(b"next")
        journal.close()
    assert acknowledged(tmp_path) == [b"chunk", b"next"]


async def test_a_stopped_writer_holds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the writer is cancelled over a disk that hangs, waiting and later appends fail at once.

    Files that the hanging thread may still write to stay open.
    """
    release = threading.Event()
    entered = threading.Event()
    write_one = module._write_one

    def hanging(write: module._Write) -> None:
        entered.set()
        assert release.wait(30)
        write_one(write)

    monkeypatch.setattr(module, "_write_one", hanging)
    refused = []

    async def append(journal: Journal) -> None:
        try:
            await journal.append(b"chunk")
        except JournalFull as full:
            refused.append(str(full))

    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    async with trio.open_nursery() as nursery, trio.open_nursery() as writing:
        writer = JournalWriter()
        await writing.start(writer.run)
        first, second = begin(writer, tmp_path / "first"), begin(writer, tmp_path / "second")
        index = first.index_fd
        nursery.start_soon(append, first)
        await trio.to_thread.run_sync(entered.wait, 30)
        nursery.start_soon(append, second)
        await trio.testing.wait_all_tasks_blocked()
        writing.cancel_scope.cancel()
    assert len(refused) == 2
    assert all("the daemon is stopping" in text for text in refused)
    with pytest.raises(JournalFull, match="stopping"):
        await second.append(b"late")
    first.close()
    second.close()
    os.fstat(index)
    release.set()
    while not read_index(tmp_path / "first" / "source.index"):  # noqa: ASYNC110
        await trio.sleep(0.01)
    os.close(index)


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """SIGKILL in the midst of appends: every acknowledged chunk is in the files, as the index says."""
    code = """
import random, sys, trio
from pathlib import Path
from ingestd.live.journal import Journal
from tests.live.tools import journal_writer
async def main():
    rng = random.Random(7)
    async with journal_writer() as writer:
        journal = Journal.create(writer, Path(sys.argv[1]), "source", 2**30)
        for number in range(10**6):
            chunk = rng.randbytes(rng.randint(1, 20_000))
            await journal.append(chunk, [len(chunk) // 2] if number % 10 == 9 else [])
            sys.stdout.write(f"{number}\\n")
            sys.stdout.flush()
trio.run(main)
"""

    def run(directory: Path, lines: int) -> int:
        process = subprocess.Popen([sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            said = [int(process.stdout.readline()) for _ in range(lines)]
        finally:
            process.send_signal(signal.SIGKILL)
        said += [
            int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")
        ]
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        return said[-1] + 1

    for round_, lines in enumerate((1, 40, 313)):
        directory = tmp_path / str(round_)
        directory.mkdir()
        count = await trio.to_thread.run_sync(run, directory, lines)
        rng = random.Random(7)
        sent = [rng.randbytes(rng.randint(1, 20_000)) for _ in range(count + 1)]
        got = acknowledged(directory)
        assert len(got) in (count, count + 1)
        # The one after the last acknowledged may be there in part: its record comes after its bytes.
        assert got[:count] == sent[:count]
    assert INDEX_RECORD.size == 32
