"""SIGKILL of the daemon in a live session: what was written is there, plays, and is counted right."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

from ingestd.live.journal_index import INDEX_MAGIC, INDEX_RECORD
from tests.daemon.tools import MKV, MP4, RAW, all_running, card, live
from tests.e2e.test_captures import control_run
from tests.support.counting import assert_same_frames, continuous, decode_errors, header_duration, read_video
from tests.support.daemon import Daemon, daemon
from tests.support.processes import alive, descendants

ENCODING = '[video]\ncodec = "h264"\nsize = "640x360"\npreset = "ultrafast"\n'
HLS = '[[sinks]]\ntype = "hls"\nname = "hls"\n'


def journal_of(running: Daemon) -> Path:
    """The one session's directory with its journal."""
    (index,) = (running.state_dir / "journal" / "cam").glob("*/source.index")
    return index.parent


def journaled(directory: Path) -> list[bytes]:
    """The chunks of the source's journal in *directory*, as its index says."""
    data = (directory / "source.index").read_bytes()
    assert data.startswith(INDEX_MAGIC)
    whole = len(data) - (len(data) - len(INDEX_MAGIC)) % INDEX_RECORD.size
    chunks = []
    for number, recorder, size, offset, arrival in INDEX_RECORD.iter_unpack(data[len(INDEX_MAGIC) : whole]):
        assert number == len(chunks)
        assert abs(arrival - time.time()) < 300
        with (directory / f"source-{recorder:04}.media").open("rb") as file:
            file.seek(offset)
            chunks.append(file.read(size))
            assert len(chunks[-1]) == size
    return chunks


async def kill_while_live(
    running: Daemon, chunks: list[bytes], seconds: float
) -> tuple[dict[str, Any], set[int]]:
    """SIGKILL the daemon *seconds* into a live session; returns the last status before, and its children."""
    async with live(running, chunks):
        await running.wait_until(all_running)
        await running.wait_until(lambda s: s["chunks"] >= seconds * 4)
        children = set(descendants(running.process.pid))
        status = await trio.to_thread.run_sync(running.status)
        running.process.kill()
        running.exit_code = running.process.wait()
    return status, children


async def wait_gone(pids: set[int]) -> None:
    """Wait until none of *pids* runs any more; an unreaped one is gone, too: its parent is init now."""
    with trio.fail_after(10):
        while any(alive(pid) for pid in pids):  # noqa: ASYNC110  another process's children
            await trio.sleep(0.05)


@pytest.mark.usefixtures("no_processes_left")
async def test_a_killed_daemon_leaves_all_that_it_had_written(tmp_path: Path, ffmpeg: str) -> None:
    """After SIGKILL and a restart the session goes on; recordings play, and have all that was accepted."""
    chunks = await card(ffmpeg, 12)
    control = read_video(await control_run(tmp_path / "control", chunks))
    pipeline = ENCODING + RAW + MKV + MP4 + HLS
    with daemon(tmp_path / "run", pipeline) as running:
        status, children = await kill_while_live(running, chunks, 6.0)
    assert len(children) == 2  # the encoder and the HLS writer
    await wait_gone(children)
    parts = running.recordings
    assert {path.suffix for path in parts} == {".part"}
    assert len(parts) == 2

    # Every chunk that the API had counted is in the journal, in order, byte for byte.
    journal = journal_of(running)
    accepted = journaled(journal)
    assert len(accepted) >= status["chunks"] >= 24
    assert accepted == chunks[: len(accepted)]
    assert sum(map(len, accepted)) >= status["bytes"]

    with daemon_again(running, pipeline) as running:
        assert running.status()["state"] == "interrupted"
        assert running.status()["chunks"] == len(accepted)
        assert running.stop() == 0
    assert not journal.exists()
    mkv, mp4, raw = sorted(running.recordings, key=lambda path: path.suffix)
    assert (mkv.suffix, mp4.suffix) == (".mkv", ".mp4")
    assert raw.read_bytes() == b"".join(accepted)
    for recording in (mkv, mp4):
        assert decode_errors(recording) == []
        frames = read_video(recording)
        assert continuous(frames)
        assert_same_frames(frames, control[: len(frames)])
        # A chunk ends inside an element: the last frame may not have come whole.
        assert frames[-1][0] > len(accepted) * 0.25 - 0.25
        assert header_duration(recording) == pytest.approx(frames[-1][0], abs=0.15)
    sent = next(sink["sent_frames"] for sink in status["sinks"] if sink["name"] == "mkv")
    assert packets(mkv) >= sent


def daemon_again(dead: Daemon, pipeline: str) -> AbstractContextManager[Daemon]:
    """Another daemon where *dead* was."""
    return daemon(dead.directory, pipeline)


def packets(path: Path) -> int:
    """How many frames of all tracks are in *path*."""
    from ingestd.media.frames import Frame
    from ingestd.media.webm_demux import Demuxer

    return sum(isinstance(event, Frame) for event in Demuxer().feed(path.read_bytes()))


@pytest.mark.full
@pytest.mark.usefixtures("no_processes_left")
async def test_a_torn_part_is_cut_to_what_plays(tmp_path: Path, ffmpeg: str) -> None:
    """A `.part` that lacks its last bytes plays; a file that is no recording stays as it is."""
    chunks = await card(ffmpeg, 6)
    with daemon(tmp_path, ENCODING + MKV) as running:
        await kill_while_live(running, chunks, 4.0)
    (part,) = running.recordings
    whole = part.read_bytes()
    part.write_bytes(whole[:-777])
    foreign = part.with_name("foreign.mkv.part")
    foreign.write_bytes(b"not a recording")
    with daemon_again(running, ENCODING + MKV) as running:
        running.wait_event("recovery_finished")
        (event,) = running.events("recording_not_recovered")
    assert event["file"].endswith("foreign.mkv.part")
    assert event["cause"]
    assert foreign.read_bytes() == b"not a recording"
    (mkv,) = [path for path in running.recordings if path != foreign]
    assert decode_errors(mkv) == []
    assert continuous(read_video(mkv))
    assert len(whole) > mkv.stat().st_size * 0.8
