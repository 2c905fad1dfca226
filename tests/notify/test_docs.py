"""docs/webhooks.md: its examples are what is sent, its receiver works."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec
import pytest

from ingestd.config import Notify, Webhook
from ingestd.control.webhooks import delivery_told, endpoint_told
from ingestd.credentials import read_signing_secrets
from ingestd.events import Event
from ingestd.notify.endpoint import Endpoint
from ingestd.notify.guard import Resolver
from ingestd.notify.message import TEST, Message
from ingestd.notify.post import Poster
from ingestd.notify.signature import signed_headers
from ingestd.webhook_types import WEBHOOK_TYPES
from tests.notify.tools import OTHER_SECRET, SECRET, delivery, eventually, secret_file, webhook

GUIDE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
EXAMPLES = [json.loads(body) for language, body in BLOCKS if language == "json"]
EVENTS = {example["type"]: example for example in EXAMPLES if "timestamp" in example}


def test_every_event_has_its_example() -> None:
    assert EVENTS.keys() == {*WEBHOOK_TYPES, TEST}


@pytest.mark.parametrize("kind", WEBHOOK_TYPES)
def test_examples_are_what_is_sent(kind: str) -> None:
    """An event with an example's data has the example for its body."""
    example = EVENTS[kind]
    data = dict(example["data"])
    at = datetime.fromisoformat(example["timestamp"]).timestamp()
    message = Message.of(Event(1, at, kind, data.pop("stream"), data), "r")
    assert message is not None
    assert json.loads(message.body) == example


def test_the_example_of_a_test() -> None:
    at = datetime.fromisoformat(EVENTS[TEST]["timestamp"]).timestamp()
    assert json.loads(Message.test("evt_test_1", "app", at).body) == EVENTS[TEST]


def test_the_api_s_examples_have_every_field(tmp_path: Path) -> None:
    [listing] = [example for example in EXAMPLES if "webhooks" in example]
    [shown] = [example for example in EXAMPLES if "event_id" in example]
    made = webhook(tmp_path)
    endpoint = Endpoint(made, Notify(), Poster(made, Resolver(1)), lambda _delivery: None)
    assert list(listing["webhooks"][0]) == list(msgspec.to_builtins(endpoint_told(endpoint)))
    assert list(shown) == list(msgspec.to_builtins(delivery_told(delivery())))


def test_the_keys_are_those_of_the_configuration() -> None:
    """Each with its default."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", GUIDE, re.MULTILINE))
    assert rows.keys() == {attribute.name for attribute in Webhook.__attrs_attrs__}
    assert (rows["allow_private"], rows["timeout"]) == ("`false`", '`"15s"`')


@contextmanager
def receiver_of_the_guide(program: str, port: int, out: IO[bytes]) -> Iterator[None]:
    """*program* as a process that listens on *port*."""
    environment = {**os.environ, "WEBHOOK_SECRET": SECRET, "PORT": str(port)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


async def test_the_receiver_of_the_guide(tmp_path: Path) -> None:
    """It takes what we sign, once, and refuses what somebody else signs."""
    [program] = [body for language, body in BLOCKS if language == "python"]
    assert len(program.splitlines()) <= 25
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    body = json.dumps(EVENTS["stream.live"]).encode()
    url = f"http://127.0.0.1:{port}/"
    out = tmp_path / "out"
    with out.open("wb") as file, receiver_of_the_guide(program, port, file):
        send = Poster(webhook(tmp_path, url), Resolver(1))
        await eventually(lambda: listens(port))
        secrets = {name: read_signing_secrets(secret_file(tmp_path, name)) for name in (SECRET, OTHER_SECRET)}
        now = datetime.now().timestamp()
        for _ in range(2):
            assert (await send(signed_headers("evt_1", now, body, secrets[SECRET]), body)).status == 204
        both = signed_headers("evt_2", now, body, secrets[OTHER_SECRET] + secrets[SECRET])
        assert (await send(both, body)).status == 204
        forged = signed_headers("evt_3", now, body, secrets[OTHER_SECRET])
        assert (await send(forged, body)).status == 401
        stale = signed_headers("evt_4", now - 3600, body, secrets[SECRET])
        assert (await send(stale, body)).status == 401
        assert (await send({**forged, "webhook-signature": "v1,%"}, body)).status == 401
    assert out.read_text() == "stream.live studio\n" * 2
