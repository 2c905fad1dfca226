"""``docs/protocol.md`` says what the code does: messages, fields, bounds, codes, and its example works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import pytest

from ingestd.config import Ingest
from ingestd.live.publication import Accepted, Chunk, Closing
from ingestd.sources import protocol, resumable
from tests.sources.receiving import ACCEPTED, BINARY, KEY, Door, frame, receiver
from tests.sources.speaking import Speaker, raw, speaker

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text("utf-8")
HANDSHAKE, EXAMPLE = re.findall(r"^```text\n(.*?)^```$", PAGE.partition("## An example")[2], re.M | re.S)
SESSION = [line.partition(" ")[::2] for line in EXAMPLE.splitlines()]


def section(title: str) -> str:
    """The text from a bold **`title`** or **title** to the next bold line or heading."""
    return re.split(rf"^\*\*`?{title}`?\*\*", PAGE, flags=re.M)[1].split("\n**")[0].split("\n#")[0]


def fields(text: str) -> set[str]:
    rows = re.findall(r"^\| (`[^|]+) \|", text, re.M)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("open", {"key", "client", "resume"}),
        ("recorder", {"number", "mime", "follows"}),
        ("skip", {"to", "reason", "seconds"}),
        ("stats", {"buffered_bytes", "bitrate", "dropped_chunks"}),
        ("end", set()),
    ],
)
def test_every_message_of_a_client_is_specified(kind: str, names: set[str]) -> None:
    """Exactly those fields that are read: of each, a value of no right type is refused."""
    assert fields(section(kind)) == names
    code = (ROOT / "ingestd" / "sources" / "protocol.py").read_text()
    assert set(re.findall(r'case "(\w+)"', code)) == {"open", "recorder", "skip", "stats", "end"}
    for name in names:
        fine = {"number": 0, "to": 1, "type": kind}
        with pytest.raises(protocol.Violation):
            protocol.parse(json.dumps({**fine, name: [False]}))


def test_hello_is_specified() -> None:
    hello = json.loads(protocol.hello("demo", ACCEPTED, Ingest()))
    assert fields(section("hello")) == (hello.keys() | hello["limits"].keys()) - {"type"}
    assert set(attrs.fields_dict(Accepted)) - {"window", "ack"} <= hello.keys()


def test_the_bounds_are_specified() -> None:
    for number, said in {
        protocol.MAX_TEXT: (16 * 2**10, "at most 16 KiB long"),
        protocol.MAX_NOTICE: (64 * 2**10, "a server's are at most 64 KiB"),
        protocol.MAX_DEPTH: (8, "nested at most 8 deep"),
        protocol.MAX_NUMBER: (2**53 - 1, "from 0 to 2^53−1"),
        protocol.MAX_RECORDER: (2**32 - 1, "integer, at most 2^32−1"),
        1 / resumable.PACE: (10, "about ten a second"),
    }.items():
        assert number == said[0]
        assert said[1] in PAGE


def test_the_codes_are_those_of_publishing() -> None:
    """Each that a client of the subprotocol can meet; 1003 it cannot, 1006 is nobody's to send."""
    every = (ROOT / "docs" / "publishing.md").read_text("utf-8").partition("## Close codes")[2]
    rows = re.findall(r"^\| (\d{4}) \|", every, re.M)
    ours = re.findall(r"^\| (\d{4}) \|", PAGE, re.M)
    assert sorted(ours) == ours
    assert set(ours) - {"1006"} == set(rows) - {"1003"}


async def test_the_example_s_handshake() -> None:
    """Taken as it stands, and answered with those headers, in whatever order and case."""
    sent, answered = HANDSHAKE.replace("\n", "\r\n").split("\r\n\r\n")
    async with receiver() as r:
        client = await r.connect()
        await client.send(f"{sent}\r\n\r\n".encode())
        assert await client.status() == 101
        _, *headers = client.head.decode().lower().splitlines()
        assert sorted(headers) == sorted(answered.strip().lower().splitlines()[1:])


async def test_the_example_works() -> None:
    """Every line of it, with a session that says what it says there, and lets chunk 2 be lost."""
    numbers = []
    async with receiver(ping_interval=10, ping_timeout=10) as r:
        client = await speaker(r)
        for place, (arrow, line) in enumerate(SESSION):
            if arrow == "→" and '"open"' in line:
                hello = json.loads(SESSION[place + 1][1])
                given = {name: hello[name] for name in ("session", "next", "resumed", "token", "recorder")}
                r.door.accepts = Accepted(**given, window=hello["limits"]["window"])
                await client.send(raw(line.replace('"key":"demo"', f'"key":"{KEY}"')))
            elif arrow == "→":
                await client.send(raw(line) if line[0] == "{" else frame(BINARY, bytes.fromhex(line)))
            elif arrow == "←":
                await hear(client, r.door, line)
            if arrow == "the" or line.startswith("close"):
                client.client.reset()
                items = await r.door.all_items()
                numbers.append([item.number for item in items if isinstance(item, Chunk)])
                client = await speaker(r)
    assert numbers == [[0, 1, 2], [3]]


async def hear(client: Speaker, door: Door, line: str) -> None:
    """What the example says, after the session did what leads to it."""
    if line.startswith("close"):
        _, code, reason = line.split(" ", 2)
        assert await client.hear() == Closing(int(code), reason)
        return
    expected = json.loads(line)
    if expected["type"] == "ack":
        door.acknowledge(expected["next"])
    elif expected["type"] not in ("hello", "end"):
        door.tell(expected["type"], **{key: value for key, value in expected.items() if key != "type"})
    assert await client.hear() == expected
