"""``ingestd streams`` against the real daemon, which wants tokens."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from ingestd.auth.tokens import digest_of, new_token
from ingestd.cli import main
from ingestd.client import api
from tests.cli.cutting import cutting
from tests.cli.tools import Ingestd
from tests.control.tools import call
from tests.daemon.tools import AT_ONCE, COPY, MKV, browser_chunks
from tests.support.daemon import Daemon, daemon, publish
from tests.support.processes import free_port

PUSH = '[[sinks]]\ntype = "rtmp"\nname = "push"\nurl = "rtmps://live.example.org/app"\nper_stream = true\n'
TWO = PUSH + PUSH.replace('"push"', '"other"').replace("/app", "/other")
TOKENS = {scope: new_token() for scope in ("read", "publish", "admin")}
KEY = "a-target-key-that-nobody-may-see"
WEBHOOK = """
[[webhooks]]
name = "app"
url = "http://127.0.0.1:{port}/"
secret_file = "webhook"
allow_private = true
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for the module, with an application that does not answer its webhook."""
    directory = tmp_path_factory.mktemp("daemon")
    (directory / "secret").write_text("c2VjcmV0IGtleSBvZiBleGFjdGx5IDMyIGJ5dGVzISE=\n")
    (directory / "webhook").write_text("whsec_c2VjcmV0IGtleSBvZiBleGFjdGx5IDMyIGJ5dGVzISE=\n")
    lines = [f"{scope}:{scope}:{digest_of(token).hex()}\n" for scope, token in TOKENS.items()]
    (directory / "tokens").write_text("".join(lines))
    (directory / "pipelines").mkdir()
    (directory / "pipelines" / "push.toml").write_text(COPY + TWO)
    config = '[auth]\ntokens_file = "tokens"\ncreates = "1000/1s"\ncreates_in_all = "1000/1s"\n'
    config += '[database]\nsecret_key_file = "secret"\ntimeout = "300ms"\n'
    config += WEBHOOK.format(port=free_port())
    with daemon(directory, COPY + AT_ONCE + MKV, config=config, control='pipeline = "test"\n') as started:
        yield started


@pytest.fixture
def cli(running: Daemon) -> Ingestd:
    """With all scopes."""
    return Ingestd(f"http://{running.control}", TOKENS["admin"])


@contextmanager
def publishing(url: str) -> Iterator[None]:
    """Somebody publishes there, until the block ends."""
    scopes: list[trio.CancelScope] = []

    async def push() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await publish(url, browser_chunks(), linger=60)

    entered: list[trio.lowlevel.TrioToken] = []

    async def enter() -> None:
        entered.append(trio.lowlevel.current_trio_token())
        await push()

    thread = threading.Thread(target=trio.run, args=(enter,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        if thread.is_alive():
            entered[0].run_sync_soon(scopes[0].cancel)
        thread.join(20)


def wait_for(condition: Callable[[], Any], within: float = 20) -> Any:
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def names(listed: dict[str, Any]) -> list[str]:
    return [stream["name"] for stream in listed["streams"]]


def test_a_stream_s_life(cli: Ingestd) -> None:
    """Made, shown, changed, disabled, enabled, given another key, deleted; the key is shown twice in all."""
    made = cli.good("streams", "create", "life", "--title", "First", "--label", "a=1", "--label", "b=")
    key = next(line.split()[1] for line in made.splitlines() if line.strip().startswith("key"))
    assert f"/stream/live/{key}\n" in "".join(f"{line.strip()}\n" for line in made.splitlines())
    shown = cli.good("streams", "show", "life")
    assert "life  ● idle" in shown
    assert "First" in shown
    assert "a=1 b=" in shown
    cli.good("streams", "update", "life", "--title", "Second", "--label", "c=3", "--no-label", "a")
    now = cli.json("streams", "show", "life")
    assert (now["title"], now["labels"]) == ("Second", {"b": "", "c": "3"})
    assert "is disabled" in cli.good("streams", "disable", "life")
    assert "life  ● idle  disabled" in cli.good("streams", "show", "life")
    assert "● disabled" in cli.good("streams", "list", "-q", "life")
    assert cli.json("streams", "enable", "life")["enabled"] is True
    another = cli.json("streams", "reset-key", "life")["key"]
    assert another != key
    assert key not in shown + cli.good("streams", "show", "life")
    assert cli.good("streams", "delete", "life", text="y\n") == "life is deleted\n"
    assert 'has no stream "life"' in cli.bad("streams", "show", "life")


def test_nothing_is_deleted_unasked(cli: Ingestd) -> None:
    """Neither after "no" nor where nobody can answer; --yes is for scripts, which then get no output."""
    cli.good("streams", "create", "kept", "--disabled")
    for answer in ("n\n", ""):
        assert "nothing was deleted" in cli.bad("streams", "delete", "kept", text=answer)
    assert cli.json("streams", "show", "kept")["enabled"] is False
    assert cli.good("streams", "delete", "kept", "--yes", "--json") == ""


def test_keys_of_targets_are_read_from_files(cli: Ingestd, tmp_path: Path) -> None:
    """Or from standard input; they are sealed, shown nowhere, and replaced knowingly only."""
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    given = ("--target", f"push={file}", "--target", "other=-")
    made = cli.good("streams", "create", "aimed", "--pipeline", "push", *given, "--target-url",
                    "other=rtmps://else.example.org/app", text=f"{KEY}2\n")  # fmt: skip
    assert "push → where its pipeline says (key sealed)" in made
    assert "other → rtmps://else.example.org/app (key sealed)" in made
    lost = cli.bad("streams", "update", "aimed", "--target", f"push={file}")
    assert "the targets of other would be lost" in lost
    shown = cli.json("streams", "update", "aimed", "--target", f"push={file}", "--no-targets")
    assert shown["targets"] == [{"sink": "push", "url": None}]
    assert cli.json("streams", "update", "aimed", "--no-targets")["targets"] == []
    assert KEY not in made + lost + json.dumps(shown)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("create", "--target", f"push={KEY}"), "the key itself is not to be an argument"),
        (("create", "--target", KEY), "expected SINK=FILE"),
        (("create", "--target", "push=-", "--target", "other=-"), "one key only"),
        (("create", "--target", "push=-", "--target", "push=x"), "each sink once"),
        (("create", "--target", "push=-"), "1 to 1024 visible ASCII characters"),
        (("create", "--target-url", f"push=rtmps://x/{KEY}"), "has no key: give --target push=FILE"),
        (("create", "--label", "=x"), "expected KEY=VALUE"),
        (("update", "cam"), "nothing to change"),
        (("list", "--state", "sleeping"), "'sleeping' is not one of"),
        (("recordings", "--to", "x"), "--to says where --download goes"),
        (("recordings", "--delete", "x", "--download", "x"), "--delete ID goes alone"),
        (("create", "--mux-latency", "warp"), "'warp' is not one of"),
        (("create", "--mux-window", "2"), "expected a duration"),
        (("simulcast", "cam", "--add", "rtmps://x/app"), "--add URL and --key FILE go together"),
        (("simulcast", "cam", "--add", "x", "--key", KEY), "the key itself is not to be an argument"),
        (("simulcast", "cam", "--add", "x", "--key", "-", "--remove", "y"), "one at a time"),
        (("delte", "cam"), 'no command "delte", did you mean "delete"?'),
        (("restart", "cam"), "Missing argument 'SINK'"),
    ],
)
def test_wrong_usage(cli: Ingestd, args: tuple[str, ...], said: str) -> None:
    """Exit status 2, what was expected, and never what could be a key."""
    error = cli.bad("streams", *args, status=2)
    assert said in " ".join(error.split())
    assert KEY not in error


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("create", "cam"), "cam"),
        (("create", "Not a name"), "name: expected"),
        (("create", "--pipeline", "nope"), "pipeline: expected one of push, test"),
        (("create", "--pipeline", "test", "--target", "nope=-"), "targets[0].sink: expected a sink"),
        (("delete", "cam", "--yes"), "is declared in ingestd.toml: change it there"),
        (("stop", "cam"), "this stream is not live"),
        (("restart", "cam", "mkv"), "this stream is not live"),
        (("create", "--mux-latency", "low"), "no sink of the pipeline is to have a live stream made"),
        (("simulcast", "cam"), "has no live stream at Mux"),
        (("simulcast", "cma"), 'did you mean "cam"?'),
        (("link", "cma"), 'did you mean "cam"?'),
        (("link", "cam", "--for", "8d"), "expected at most 604800 seconds (auth.max_link)"),
        (("link", "cam", "--address", "here"), "address: expected an IP address"),
        (("stop", "cma"), 'has no stream "cma", did you mean "cam"?'),
        (("restart", "cma", "x"), 'has no stream "cma", did you mean "cam"?'),
        (("lsit",), 'has no stream "lsit", did you mean "list"?'),
        (("sessions", "cma"), 'did you mean "cam"?'),
        (("recordings", "--download", "f" * 24), "there is no such recording"),
    ],
)
def test_what_the_daemon_refuses(cli: Ingestd, args: tuple[str, ...], said: str) -> None:
    """Exit status 1, and one line that says what is wrong."""
    error = cli.bad("streams", *args, text="key\n")
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert said in error


def test_who_may(cli: Ingestd) -> None:
    """Without a token, with a wrong one, or with too small a scope: told which to give, and where."""
    assert "wants a token in $INGESTD_TOKEN" in cli.bad("streams", "create", token="")
    assert "wants another token than that" in cli.bad("streams", "stop", "cam", token="wrong")
    error = cli.bad("streams", "create", token=TOKENS["read"])
    assert 'it needs "publish"; give one that has it in $INGESTD_TOKEN (403)' in error
    assert 'it needs "admin"' in cli.bad("streams", "reset-key", "cam", token=TOKENS["publish"])
    aimed = ("--pipeline", "push", "--target", "push=-", "--target-url", "push=rtmps://else.example.org/app")
    error = cli.bad("streams", "create", *aimed, token=TOKENS["publish"], text=KEY)
    assert 'takes a token of scope "admin"' in error
    assert "cam" in cli.good("streams", token=TOKENS["read"])
    assert "cam" in cli.good("status", "--once", token=TOKENS["read"])


def test_lists(cli: Ingestd, monkeypatch: pytest.MonkeyPatch) -> None:
    """By filters, over pages; without a command it is the list, and a name alone is shown."""
    for number in range(5):
        cli.good("streams", "create", f"many{number}", "--label", f"odd={number % 2}", "--title", "Of Many")
    monkeypatch.setattr(api, "_PAGE", 2)
    everything = cli.json("streams")
    assert names(everything) == sorted(names(everything))
    assert len(names(everything)) > 5
    assert cli.json("streams", "list") == everything
    assert cli.good("streams") == cli.good("streams", "list")
    assert names(cli.json("streams", "list", "--label", "odd=1")) == ["many1", "many3"]
    assert names(cli.json("streams", "--q", "of many", "--label", "odd=0")) == ["many0", "many2", "many4"]
    assert names(cli.json("streams", "--pipeline", "push", "--q", "many")) == []
    assert cli.json("streams", "--state", "live", "--state", "failed") == {"streams": [], "complete": True}
    assert cli.good("streams", "--state", "live") == "no such streams\n"
    assert cli.json("streams", "many1") == cli.json("streams", "show", "many1")
    first = CliRunner().invoke(
        main, ["streams", "--json", "--url", cli.url, "many1"], env={"INGESTD_TOKEN": cli.token}
    )
    assert json.loads(first.stdout) == cli.json("streams", "show", "many1")


def test_what_a_session_leaves(cli: Ingestd, running: Daemon, tmp_path: Path) -> None:
    """It is stopped; session and recording are listed, and the file comes, over a line that breaks."""
    url = cli.json("streams", "create", "show")["ingest_url"]
    with publishing(url):
        wait_for(lambda: cli.json("streams", "show", "show")["sinks"])
        assert "show  ● live" in cli.good("status")
        assert "it has: mkv" in cli.bad("streams", "restart", "show", "hls")
        assert "needs none" in cli.bad("streams", "restart", "show", "mkv")
        wait_for(lambda: cli.json("streams", "sessions", "show", "--on-air")["sessions"])
        assert "show is stopped" in cli.good("streams", "stop", "show")
        wait_for(lambda: cli.json("streams", "show", "show")["state"] == "ended")
    (session,) = wait_for(lambda: ended(cli.json("streams", "sessions", "show")))
    (made,) = wait_for(lambda: finished(cli.json("streams", "recordings", "show")))
    assert session["cause"] in cli.good("streams", "sessions", "show")
    table = cli.good("streams", "recordings", "--session", session["id"])
    assert made["id"] in table
    assert made["file"] in table
    assert cli.json("streams", "sessions", "-n", "1").keys() >= {"sessions"}
    target = tmp_path / "show.mkv"
    with cutting(running.control, made["size"] // 3, made["size"] // 3) as broken:
        Ingestd(broken.url, cli.token).good("streams", "recordings", "--download", made["id"], "--to", target)
        assert broken.connections == 3
    (recorded,) = (running.state_dir / "recordings" / "show").glob("*.mkv")
    assert target.read_bytes() == recorded.read_bytes()
    again = cli.bad("streams", "recordings", "--download", made["id"], "--to", target)
    assert "is there already" in again
    told = cli.json("streams", "recordings", "--download", made["id"], "--to", tmp_path)
    assert told == made
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"show-{made['file']}", "show.mkv"]
    for answer in ("n\n", ""):
        said = cli.bad("streams", "recordings", "--delete", made["id"], text=answer)
        assert f"Delete {made['file']} of stream show" in said
        assert "nothing was deleted" in said
    assert 'it needs "admin"' in cli.bad(
        "streams", "recordings", "--delete", made["id"], "-y", token=TOKENS["publish"]
    )
    assert recorded.exists()
    assert cli.good("streams", "recordings", "--delete", made["id"], "--yes", "--json") == ""
    assert not recorded.exists()
    assert cli.json("streams", "recordings", "show")["recordings"] == []
    assert "no such recording" in cli.bad("streams", "recordings", "--delete", made["id"], "--yes")


def test_where_everybody_may_watch_a_link_is_plain(cli: Ingestd) -> None:
    """No token, and it does not expire; test_signed_links has the others."""
    made = cli.json("streams", "link", "cam")
    assert (made["token"], made["expires"]) == (None, None)
    assert made["watch_url"].endswith("/stream/watch/cam")
    assert "never: everybody may watch" in cli.good("streams", "link", "cam")


def ended(listed: dict[str, Any]) -> list[dict[str, Any]]:
    return [session for session in listed["sessions"] if session["ended"]]


def finished(listed: dict[str, Any]) -> list[dict[str, Any]]:
    return [recording for recording in listed["recordings"] if recording["finished"]]


def test_a_create_whose_answer_was_lost(cli: Ingestd, running: Daemon) -> None:
    """It is sent again, and answered what was answered first: one stream, and its key."""
    with cutting(running.control, 20, 20) as broken:
        through = Ingestd(broken.url, cli.token)
        made = through.json("streams", "create", "--title", "Once")
        assert broken.connections == 3
    assert names(cli.json("streams", "--q", "Once")) == [made["name"]]
    assert running.wait_event("stream_created")
    again = [cli.json("streams", "create", "--idempotency-key", "mine") for _ in range(2)]
    assert again[0]["key"] == again[1]["key"]


def test_another_change_whose_answer_was_lost(cli: Ingestd, running: Daemon) -> None:
    """It is not made again: that it may have been done is said."""
    cli.good("streams", "create", "once")
    with cutting(running.control, 20) as broken:
        error = Ingestd(broken.url, cli.token).bad("streams", "disable", "once")
    assert "may have done it: look before you try again" in error


def test_what_is_wrong_beside_streams(cli: Ingestd, running: Daemon) -> None:
    """A webhook that fails and a database that is away are in the status, for people and for scripts."""
    cli.good("streams", "create", "told", "--disabled")
    assert call(running, "POST", "/v1/webhooks/app/test", token=cli.token).status == 202
    wait_for(lambda: "webhook app fails since " in cli.good("status"))
    well = cli.json("status", "--once")
    assert (well["ready"], well["database"], well["webhooks"][0]["name"]) == (True, "ok", "app")
    with sqlite3.connect(running.state_dir / "ingestd.db", isolation_level=None) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        refused = cli.bad("streams", "create")
        # What the daemon asked it last tells it how its database is.
        shown = wait_for(lambda: cli("streams", "create") and away(cli.good("status")))
        wait_for(lambda: cli("streams", "create") and cli.json("status")["database"] == "away")
        connection.execute("ROLLBACK")
    connection.close()
    assert "try again in 5 s" in refused
    assert "disabled: " in shown


def away(shown: str) -> str:
    return shown if "! its database is away" in shown else ""
