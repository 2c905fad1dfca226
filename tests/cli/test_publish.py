"""``ingestd publish`` against the real daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import trio

from tests.cli.tools import command, environment, ingestd
from tests.support.captures import capture
from tests.support.counting import decode_errors
from tests.support.daemon import daemon
from tests.support.proxy import proxy

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


async def test_a_connection_that_breaks_is_made_again(tmp_path: Path) -> None:
    """Status 0, a line for the loss and one for the return; every byte once."""
    source = capture("cv-vp8-250.webm")
    with daemon(tmp_path, RAW) as running:
        async with proxy(int(running.ingest.rpartition(":")[2])) as between:
            between.cut_after(500_000)
            url = f"ws://127.0.0.1:{between.port}/stream/live"
            call = partial(ingestd, "publish", source.path, "--url", url, "--key", "cam-key", cwd=tmp_path)
            done = await trio.to_thread.run_sync(call)
        await running.wait_ended()
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == f"publishing cv-vp8-250.webm to ws://127.0.0.1:{between.port}/stream/live/***"
    assert said[1].startswith("session 2")
    assert said[1].endswith(" of stream cam")
    assert said[2] == "lost the connection (1006: the connection broke); trying again"
    assert said[3].startswith("connected again: going on, 2")
    assert said[4].startswith("done: acknowledged 1.4 MB in 1")
    assert said[4].endswith(" chunks, over 1 reconnect")
    (recording,) = running.recordings
    assert recording.read_bytes() == source.data()


async def test_it_gives_up_and_says_what_is_missing(tmp_path: Path) -> None:
    """Status 1; with --json the numbers on standard output, and the rest on standard error."""
    source = capture("cv-vp8-250.webm")
    with daemon(tmp_path, RAW) as running:
        async with proxy(int(running.ingest.rpartition(":")[2])) as between:
            between.cut_after(500_000)
            call = partial(
                ingestd, "publish", source.path, "--json", "--give-up-after", "0",
                "--url", f"ws://127.0.0.1:{between.port}/stream/live/cam-key", cwd=tmp_path,
            )  # fmt: skip
            done = await trio.to_thread.run_sync(call)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["complete"], told["gave_up"], told["interrupted"], told["code"]) == (
        False,
        True,
        False,
        1006,
    )
    assert told["bytes"] + told["missing_bytes"] <= len(source.data())
    assert told["missing_chunks"] > 0
    assert "gave up after 0s without a connection that works: closed with 1006: the connection broke (" in (
        done.stderr
    )
    assert f"; acknowledged {told['bytes'] / 1000:.1f} kB in {told['chunks']} chunk" in done.stderr
    assert f" in {told['missing_chunks']} chunk" in done.stderr


def test_standard_input(tmp_path: Path) -> None:
    """What comes on it is sent as it comes; MP4 as well."""
    for name in ("cv-vp8-250.webm", "cv-mp4avc-250.mp4"):
        source = capture(name)
        with daemon(tmp_path / name, RAW) as running:
            with source.path.open("rb") as stdin:
                done = subprocess.run(
                    command("publish", "-", "--url", running.publish_url), cwd=tmp_path, env=environment(),
                    stdin=stdin, capture_output=True, text=True, timeout=60,
                )  # fmt: skip
            until = time.monotonic() + 20
            while running.status()["state"] != "ended" and time.monotonic() < until:
                time.sleep(0.05)
        assert done.returncode == 0, done.stderr
        assert "publishing standard input to" in done.stdout
        (recording,) = running.recordings
        assert recording.read_bytes() == source.data()


def test_ctrl_c_while_nothing_comes(tmp_path: Path) -> None:
    """A pipe that is silent holds nobody up: what came is acknowledged, status 130."""
    data = capture("cv-vp8-250.webm").data()[:100_000]
    with daemon(tmp_path, RAW) as running:
        reading, writing = os.pipe()
        process = subprocess.Popen(
            command("publish", "-", "--url", running.publish_url), cwd=tmp_path, env=environment(),
            stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            os.write(writing, data[:50_000])
            os.write(writing, data[50_000:])
            until = time.monotonic() + 20
            while running.status().get("bytes") != len(data) and time.monotonic() < until:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
            os.close(reading)
            os.close(writing)
    assert process.returncode == 130, errors
    assert "done: acknowledged 100.0 kB in" in output


async def test_plain_chunks(tmp_path: Path) -> None:
    """--plain is the way of a simple page: sent, and not acknowledged."""
    source = capture("cv-vp8-250.webm")
    with daemon(tmp_path, RAW) as running:
        url = f"ws://{running.ingest}/stream/live"
        args = ("publish", source.path, "--plain", "--speed", "0", "--json", "--url", url, "--key", "cam-key")
        done = ingestd(*args, cwd=tmp_path)
        await running.wait_ended()
        (connected,) = running.events("publisher_connected")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["complete"], told["code"], told["bytes"]) == (True, 1000, len(source.data()))
    assert "subprotocol" not in connected
    assert "done: sent 1.4 MB in 17 chunks" in done.stderr
    (recording,) = running.recordings
    assert recording.read_bytes() == source.data()


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
        (("publish", "-", "--speed", "2", "--key", "k"), "are for files"),
        (
            ("publish", film, "--url", "ws://host/stream/live"),
            "it has no key at its end",
        ),
        (("publish", film, "--key", "k", "--buffer", "lots"), 'expected a size like "16MiB"'),
        (("publish", film, "--key", "k", "--give-up-after", "9"), 'expected a duration like "2s"'),
        (("publish", film, "--key", "k", "--buffer-time", "9s"), "--buffer-time is for --when-full drop"),
        (("publish", film, "--key", "k", "--plain", "--buffer", "1MiB"), "--buffer has no use here: --plain"),
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
