"""``ingestd publish`` against the real daemon."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from tests.cli.tools import command, environment, ingestd
from tests.support.captures import capture
from tests.support.counting import decode_errors
from tests.support.daemon import daemon

RAW = '[[sinks]]\ntype = "file"\nformat = "raw"\n'
COPY = '[video]\ncodec = "copy"\n[[sinks]]\ntype = "file"\n'


async def test_a_file_arrives_byte_for_byte(tmp_path: Path) -> None:
    """What a raw recording keeps is the file that was published."""
    source = capture("cv-vp8-250.webm")
    with daemon(tmp_path, RAW) as running:
        done = ingestd("publish", source.path, "--url", running.publish_url, cwd=tmp_path)
        await running.wait_ended()
        assert done.returncode == 0, done.stderr
        assert "done: acknowledged 1.4 MB in 17 chunks" in done.stdout
        [recording] = running.recordings
        assert recording.read_bytes() == source.data()


async def test_the_address_comes_from_the_configuration(tmp_path: Path) -> None:
    """With --key the stream is published to [ingest] bind, and no output holds the key."""
    with daemon(tmp_path, COPY) as running:
        config = tmp_path / "near.toml"
        config.write_text(f'[ingest]\nbind = "{running.ingest}"\n')
        done = ingestd(
            "publish", capture("cv-vp8-250.webm").path, "--speed", "0", "-c", config,
            cwd=tmp_path, INGESTD_KEY="cam-key",
        )  # fmt: skip
        await running.wait_ended()
        assert done.returncode == 0, done.stderr
        assert f"ws://{running.ingest}/stream/live/***" in done.stdout
        assert "cam-key" not in done.stdout + done.stderr
        assert decode_errors(running.recordings[0]) == []


async def test_a_looped_file_is_a_new_recorder_each_time(tmp_path: Path) -> None:
    """--loop publishes a file of 4.4 s again and again on one connection, until --seconds of media."""
    with daemon(tmp_path, RAW) as running:
        done = ingestd(
            "publish", capture("cv-vp8-250.webm").path, "--url", running.publish_url,
            "--loop", "--speed", "0", "--seconds", "12", cwd=tmp_path,
        )  # fmt: skip
        await running.wait_ended()
        assert done.returncode == 0, done.stderr
        assert len(running.recordings) == 3


def test_a_wrong_key_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Exit status 1, with the close code, what the server said and what to do; the key is not shown."""
    with daemon(tmp_path, RAW) as running:
        url = f"ws://{running.ingest}/stream/live/not-the-key"
        done = ingestd("publish", capture("cv-vp8-250.webm").path, "--url", url, cwd=tmp_path)
    assert done.returncode == 1
    assert "closed with 4401: unknown stream key (no stream has this key;" in done.stderr
    assert "not-the-key" not in done.stdout + done.stderr


def test_a_wrong_path_is_refused_with_the_status(tmp_path: Path) -> None:
    """An upgrade that the server refuses shows the HTTP status and the server's words."""
    with daemon(tmp_path, RAW) as running:
        url = f"ws://{running.ingest}/no/such/path"
        done = ingestd("publish", capture("cv-vp8-250.webm").path, "--url", url, cwd=tmp_path)
    assert done.returncode == 1
    assert "HTTP status 404: Nothing is served here" in done.stderr


def test_a_second_publisher_is_told_at_once(tmp_path: Path) -> None:
    """A stream that is live refuses another publisher; Ctrl-C ends the first in order, with status 130."""
    with daemon(tmp_path, RAW) as running:
        args = ("publish", capture("cv-vp8-freeze.webm").path, "--loop", "--url", running.publish_url)
        first = subprocess.Popen(command(*args), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE)
        try:
            until = time.monotonic() + 20
            while running.status()["state"] != "live" and time.monotonic() < until:
                time.sleep(0.05)
            second = ingestd(*args, cwd=tmp_path)
            first.send_signal(signal.SIGINT)
            output, _ = first.communicate(timeout=20)
        finally:
            first.kill()
            first.wait()
        [gone] = running.events("publisher_gone")
    assert second.returncode == 1
    assert "closed with 4409: this stream is already live (somebody publishes" in second.stderr
    assert first.returncode == 130
    assert b"done: acknowledged" in output
    assert (gone["by"], gone["code"]) == ("ingestd", 1000)


async def test_the_test_card_is_published(tmp_path: Path) -> None:
    """--test-card needs no file, and --seconds ends it."""
    with daemon(tmp_path, COPY) as running:
        done = ingestd("publish", "--test-card", "--seconds", "3", "--url", running.publish_url, cwd=tmp_path)
        await running.wait_ended()
        assert done.returncode == 0, done.stderr
        assert decode_errors(running.recordings[0]) == []


def test_nothing_listens(tmp_path: Path) -> None:
    """A refused connection names the address without the key, and exits with 1."""
    done = ingestd(
        "publish",
        capture("cv-vp8-250.webm").path,
        "--url",
        "ws://127.0.0.1:1/stream/live/secret",
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "Error: cannot publish to ws://127.0.0.1:1/stream/live/***: Connection refused\n"
    )  # fmt: skip


def test_a_file_that_is_no_webm(tmp_path: Path) -> None:
    """A file in another format is refused before anything is sent, with the way to convert it."""
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    done = ingestd("publish", "film.mp4", "--key", "k", cwd=tmp_path)
    assert done.returncode == 1
    assert "film.mp4: byte 0: neither WebM nor Matroska" in done.stderr
    assert "ffmpeg -i film.mp4 out.webm" in done.stderr


def test_wrong_usage(tmp_path: Path) -> None:
    """Without a source, without a target, or with a URL that is none: exit status 2."""
    film = capture("cv-vp8-250.webm").path
    for args, said in (
        (("publish",), "give one of FILE, - (standard input) and --test-card"),
        (("publish", film), "where to?"),
        (("publish", film, "--url", "http://host/stream/live/secret"), "expected a URL like ws://"),
        (("publish", film, "--key", "no/key"), "expected 1 to 128 of"),
        (("publish", "--test-card", "--loop", "--key", "k"), "are for files"),
    ):
        done = ingestd(*args, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
        assert "secret" not in done.stderr


def test_the_help_teaches_where_to_publish(tmp_path: Path) -> None:
    """Both ways to name the target, each on a line of its own."""
    told = ingestd("publish", "-h", cwd=tmp_path).stdout
    assert "\n    --url ws://HOST:8081/stream/live/KEY   (or $INGESTD_PUBLISH_URL)\n" in told
    assert "\n    --key KEY                              (or $INGESTD_KEY), to [ingest] bind" in told
