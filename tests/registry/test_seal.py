"""Secrets at rest: opened by whom they were meant for, and where they belong."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from ingestd.credentials import CredentialError
from ingestd.registry.database import Database
from ingestd.registry.model import Target
from ingestd.registry.seal import Sealer, SealError, open_answer, seal_answer
from ingestd.registry.streams import add_stream, all_streams, seal_anew
from tests.registry.tools import stream

OLD, NEW = b"o" * 32, b"n" * 32
TARGET = Target(sink="mux", key="hidden-key", url="rtmps://example.org/hidden-path")


@given(st.text(), st.none() | st.text())
def test_a_target_comes_back_as_it_was(key: str, url: str | None) -> None:
    sealer = Sealer((OLD,))
    target = Target(sink="mux", key=key, url=url)
    sealed = sealer.seal("booth", target)
    assert sealer.open("booth", "mux", sealed) == target
    assert sealer.seal("booth", target) != sealed


def test_nothing_of_it_can_be_read() -> None:
    sealed = Sealer((OLD,)).seal("booth", TARGET)
    assert b"hidden" not in sealed
    assert OLD not in sealed


def test_without_a_key_nothing_is_kept_and_nothing_opened() -> None:
    """The errors say what to do."""
    none, some = Sealer(), Sealer((OLD,))
    assert bool(some)
    assert not none
    with pytest.raises(SealError, match=r"set database\.secret_key_file .* `openssl rand -base64 32`"):
        none.seal("booth", TARGET)
    with pytest.raises(SealError, match=r'stream "booth", sink "mux" is sealed.*bring it back'):
        none.open("booth", "mux", some.seal("booth", TARGET))


def test_the_wrong_key_is_named_as_such() -> None:
    """It is told from a damaged value, which is mended otherwise."""
    sealed = Sealer((OLD,)).seal("booth", TARGET)
    with pytest.raises(SealError, match=r"a key that database\.secret_key_file does not have: bring it back"):
        Sealer((NEW,)).open("booth", "mux", sealed)
    for damaged in (sealed[:-1], sealed[:8], sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(SealError, match="is damaged, or was another's"):
            Sealer((OLD,)).open("booth", "mux", damaged)
    for foreign in (b"", b"\x02" + sealed[1:]):
        with pytest.raises(SealError, match="by another version"):
            Sealer((OLD,)).open("booth", "mux", foreign)


@pytest.mark.parametrize(("name", "sink"), [("stage", "mux"), ("booth", "rtmp"), ("boothm", "ux")])
def test_it_opens_only_where_it_belongs(name: str, sink: str) -> None:
    """Whoever can write into the database cannot give one stream another's target."""
    sealer = Sealer((OLD,))
    with pytest.raises(SealError, match="was another's"):
        sealer.open(name, sink, sealer.seal("booth", TARGET))


async def test_keys_are_changed_without_losing_anything(database: Database) -> None:
    """The first line seals, all lines open; once all is sealed anew, the old line may go."""
    old, both, new = Sealer((OLD,)), Sealer((NEW, OLD)), Sealer((NEW,))
    kept = stream(targets=(TARGET,))
    await database.run(add_stream, kept, old)
    assert await database.read(all_streams, both) == [kept]
    with pytest.raises(SealError):
        await database.read(all_streams, new)
    assert await database.run(seal_anew, both) == 1
    assert await database.run(seal_anew, both) == 0
    assert await database.read(all_streams, new) == [kept]
    with pytest.raises(SealError):
        await database.read(all_streams, old)


async def test_a_target_without_a_sealing_key_leaves_no_stream(database: Database) -> None:
    """It is refused as a whole."""
    with pytest.raises(SealError):
        await database.run(add_stream, stream(targets=(TARGET,)), Sealer())
    assert await database.read(all_streams, Sealer()) == []


async def test_no_target_is_in_the_clear_in_the_database(database: Database) -> None:
    def everything(connection: Connection) -> str:
        return str([connection.execute(text(f"SELECT * FROM {t}")).all() for t in ("streams", "targets")])  # noqa: S608

    await database.run(add_stream, stream(targets=(TARGET,)), Sealer((OLD,)))
    shown = await database.read(everything)
    assert "booth" in shown
    assert "hidden" not in shown
    if database.path is not None:
        files = [file.read_bytes() for file in database.path.parent.glob("ingestd.db*")]
        assert any(b"booth" in content for content in files)
        assert not any(b"hidden" in content for content in files)


def line(key: bytes) -> str:
    return base64.b64encode(key).decode()


def test_keys_are_lines_of_a_file(tmp_path: Path) -> None:
    """With notes and empty lines between them."""
    file = tmp_path / "keys"
    file.write_text(f"# since May\n{line(NEW)}\n\n  {line(OLD)}\n")
    assert Sealer.of(str(file)).is_current(Sealer((NEW,)).seal("a", TARGET))
    assert Sealer.of(str(file)).open("a", "mux", Sealer((OLD,)).seal("a", TARGET)) == TARGET
    assert not Sealer.of("")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "has no key; `openssl rand -base64 32` makes one"),
        ("# nothing\n", "has no key"),
        (line(OLD[:31]), "line 1: expected 32 bytes in base64"),
        (f"{line(OLD)}\n{line(OLD)}x", "line 2: expected 32 bytes"),
        ("hidden passphrase", "line 1: expected 32 bytes"),
        ("ü" * 44, "line 1: expected 32 bytes"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(CredentialError) as caught:
        Sealer.of(str(file))
    assert told in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_kept_answer_opens_with_its_key_only() -> None:
    """Idempotency keys seal what they were answered, in which a publish key may be."""
    body = os.urandom(50)
    sealed = seal_answer("key-1", "scope", body)
    assert open_answer("key-1", "scope", sealed) == body
    for key, scope in (("key-2", "scope"), ("key-1", "other")):
        with pytest.raises(SealError, match="use another"):
            open_answer(key, scope, sealed)
