"""``ingestd webhooks`` against the real daemon, with an endpoint that answers and one that does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ingestd.auth.tokens import digest_of, new_token
from tests.cli.test_streams import wait_for
from tests.cli.tools import Ingestd
from tests.daemon.tools import AT_ONCE, COPY, MKV
from tests.support.daemon import Daemon, daemon
from tests.support.processes import free_port

SECRET = "whsec_c2VjcmV0IGtleSBvZiBleGFjdGx5IDMyIGJ5dGVzISE="
READ, ADMIN = new_token(), new_token()
WEBHOOK = """
[[webhooks]]
name = "{name}"
url = "http://127.0.0.1:{port}/{path}"
secret_file = "webhook"
allow_private = true
"""


class Receiver(BaseHTTPRequestHandler):
    """Takes what comes."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("daemon")
    (directory / "webhook").write_text(f"{SECRET}\n")
    (directory / "tokens").write_text(
        f"read:read:{digest_of(READ).hex()}\nadmin:admin:{digest_of(ADMIN).hex()}\n"
    )
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    config = '[auth]\ntokens_file = "tokens"\n'
    config += WEBHOOK.format(name="app", port=server.server_port, path="secret-path")
    config += WEBHOOK.format(name="deaf", port=free_port(), path="secret-path")
    try:
        with daemon(directory, COPY + AT_ONCE + MKV, config=config) as started:
            yield started
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def cli(running: Daemon) -> Ingestd:
    return Ingestd(f"http://{running.control}", ADMIN)


def test_endpoints_and_their_deliveries(cli: Ingestd) -> None:
    """A test is sent to each: listed by endpoint and state, shown in full, sent again; no URL, no secret."""
    first = cli.json("webhooks", "test", "app")
    deaf = cli.good("webhooks", "test", "deaf").split()[-1]
    wait_for(lambda: cli.json("webhooks", "deliveries", "app", "--state", "delivered")["deliveries"])
    wait_for(lambda: cli.json("webhooks", "list")["webhooks"][1]["last_error"])
    table = cli.good("webhooks", "list")
    assert "app" in table
    assert "failing for" in table
    listed = cli.json("webhooks", "deliveries")["deliveries"]
    assert [each["id"] for each in listed] == [deaf, first["id"]]
    (only,) = cli.json("webhooks", "deliveries", "-n", "1", "--state", "pending")["deliveries"]
    assert only["endpoint"] == "deaf"
    shown = cli.good("webhooks", "deliveries", "deaf") + cli.good("webhooks", "show", deaf)
    assert deaf in shown
    assert "pending" in shown
    assert '{"type":"webhook.test"' in shown
    assert f"{first['id']} is tried again" in cli.good("webhooks", "retry", first["id"])
    wait_for(lambda: cli.json("webhooks", "list")["webhooks"][0]["delivered"] == 2)
    again = wait_for(lambda: delivered(cli, first["id"]))
    assert (again["state"], again["attempts"]) == ("delivered", 1)
    assert "secret-path" not in table + shown + json.dumps(listed)
    assert cli.good("webhooks", "deliveries", "app", "--state", "failed") == "no deliveries\n"


def delivered(cli: Ingestd, identifier: str) -> dict[str, object] | None:
    found: dict[str, object] = cli.json("webhooks", "show", identifier)
    return found if found["state"] == "delivered" else None


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("test", "nobody"), 1, 'no webhook is called "nobody"'),
        (("show", "none"), 1, "no delivery has this id"),
        (("retry", "none"), 1, "no delivery has this id"),
        (("deliveries", "Not a name"), 1, "endpoint: expected"),
        (("deliveries", "--state", "lost"), 2, "'lost' is not one of"),
        (("retry",), 2, "Missing argument 'ID'"),
    ],
)
def test_what_is_refused(cli: Ingestd, args: tuple[str, ...], status: int, said: str) -> None:
    """One line, and the exit status of a refusal or of wrong usage."""
    assert said in cli.bad("webhooks", *args, status=status)


def test_who_may(cli: Ingestd) -> None:
    """To look takes "read", to send "admin"."""
    assert "app" in cli.good("webhooks", "list", token=READ)
    assert 'it needs "admin"' in cli.bad("webhooks", "test", "app", token=READ)
    assert 'it needs "admin"' in cli.bad("webhooks", "retry", "x", token=READ)


def test_where_there_are_none(tmp_path: Path) -> None:
    with daemon(tmp_path, COPY + MKV) as running:
        assert "no webhooks" in Ingestd(f"http://{running.control}").good("webhooks", "list")
