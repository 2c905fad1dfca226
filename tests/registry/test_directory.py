"""All streams in memory: by name, by key, declared and registered."""

from __future__ import annotations

import pytest
from attrs import evolve

from ingestd.auth.question import Unknown
from ingestd.config import StreamConfig
from ingestd.names import KEY, NAME
from ingestd.registry.directory import Directory, StreamTaken, declared
from ingestd.registry.keys import digest, make_key, make_name
from ingestd.registry.model import Playback, Stream, Target


def stream(name: str, key: str = "", **more: object) -> Stream:
    key_sha256 = digest(key or f"key-of-{name}")
    return Stream(name=name, pipeline="hls", key_sha256=key_sha256, created=1.0, updated=1.0, **more)  # type: ignore[arg-type]


def of_file(name: str, key: str = "") -> Stream:
    key_sha256 = digest(key or f"key-of-{name}")
    (made,) = declared([StreamConfig(name=name, pipeline="file", key_sha256=key_sha256)], 5.0)
    return made


def test_a_stream_is_found_by_its_name_and_its_key() -> None:
    directory = Directory([of_file("stage")])
    directory.put(stream("booth"))
    assert directory.names == ["booth", "stage"]
    assert directory.get("booth") == directory.find("key-of-booth") == stream("booth")
    assert directory.find("key-of-stage") == of_file("stage")


@pytest.mark.parametrize("key", ["", "key-of-boot", "key-of-booth ", "\udcff", "\x00" * 32, "ü"])
def test_another_key_finds_nothing(key: str) -> None:
    """Whatever text a publisher sends in place of a key is an answer, never an error."""
    directory = Directory()
    directory.put(stream("booth"))
    assert directory.find(key) is None


def test_a_key_of_zeros_only_is_no_stream_s() -> None:
    """The digest that stands for "none" opens nothing."""
    assert Directory().find("") is None


def test_the_life_of_a_stream() -> None:
    """Another one of its name has another; a change does not; while streams may be missing it is unknown."""
    directory = Directory([of_file("stage")])
    with pytest.raises(Unknown):
        directory.life("booth")
    directory.fill([stream("booth")])
    assert (directory.life("stage"), directory.life("none")) == ("", None)
    first = directory.life("booth")
    directory.put(evolve(stream("booth", "new"), updated=2.0, enabled=False))
    assert directory.life("booth") == first
    directory.remove("booth")
    directory.put(evolve(stream("booth"), created=1.001))
    assert directory.life("booth") not in (first, "", None)


def test_a_disabled_stream_is_found() -> None:
    """Whoever admits publishers tells a disabled stream from an unknown key."""
    directory = Directory()
    directory.put(stream("booth", enabled=False))
    found = directory.find("key-of-booth")
    assert found is not None
    assert not found.enabled


def test_a_key_that_was_reset_opens_nothing_any_more() -> None:
    directory = Directory()
    directory.put(stream("booth", "old"))
    directory.put(stream("booth", "new"))
    assert directory.find("old") is None
    assert directory.find("new") == stream("booth", "new")
    assert len(directory) == 1


def test_a_removed_stream_is_gone_with_its_key() -> None:
    directory = Directory()
    directory.put(stream("booth"))
    assert directory.remove("booth") == stream("booth")
    assert directory.remove("booth") is None
    assert directory.find("key-of-booth") is None
    directory.put(stream("other", "key-of-booth"))


def test_two_streams_cannot_share_a_key() -> None:
    directory = Directory()
    directory.put(stream("booth", "same"))
    with pytest.raises(StreamTaken, match='"booth" has the same key'):
        directory.put(stream("other", "same"))
    assert directory.names == ["booth"]


def test_a_declared_name_is_taken() -> None:
    """The API makes no stream that the file has; what it changes of a declared one is kept with it."""
    directory = Directory([of_file("stage")])
    with pytest.raises(StreamTaken, match=r"declared in ingestd\.toml; choose another name"):
        directory.put(stream("stage"))
    assert directory.remove("stage") is None
    directory.put(evolve(of_file("stage"), enabled=False, pipeline="x", key_sha256=digest("x")))
    found = directory.find("key-of-stage")
    assert found is not None
    assert (found.enabled, found.pipeline) == (False, "file")


def test_filling_joins_what_the_file_and_the_database_know() -> None:
    """The file decides on pipeline and key, the database on the rest; what hides is named."""
    stage = of_file("stage", "shared")
    directory = Directory([stage, of_file("hall")])
    assert not directory.loaded
    directory.put(stream("leftover"))
    hidden = directory.fill(
        [
            stream("booth"),
            stream("hall"),
            stream("twin", "shared"),
            evolve(stage, enabled=False, pipeline="old", created=1.0),
            evolve(of_file("gone"), enabled=False),
        ]
    )
    assert hidden == ["hall", "twin"]
    assert directory.loaded
    assert directory.names == ["booth", "hall", "stage"]
    assert directory.get("stage") == evolve(stage, enabled=False, created=1.0)
    assert directory.get("hall") == of_file("hall")


def test_filling_again_replaces_what_was_registered() -> None:
    directory = Directory([of_file("stage")])
    directory.fill([stream("one"), stream("two")])
    directory.fill([stream("two", "other"), stream("three", "key-of-two")])
    assert [s.name for s in directory] == ["stage", "three", "two"]
    assert directory.find("key-of-two") == stream("three", "key-of-two")


def test_made_names_and_keys_can_stand_where_they_have_to() -> None:
    names = {make_name() for _ in range(1000)}
    keys = {make_key() for _ in range(1000)}
    assert len(names) == len(keys) == 1000
    assert all(NAME.fullmatch(name) for name in names)
    assert all(KEY.fullmatch(key) and key.isalnum() for key in keys)
    assert len(set("".join(keys))) == 62


def test_no_secret_is_in_a_repr() -> None:
    target = Target(sink="mux", key="hidden-key", url="rtmp://user:hidden-word@example.org/hidden-path")
    shown = repr(stream("booth", targets=(target,), playback=(Playback(id="p", provider="mux"),)))
    assert "hidden" not in shown
    assert repr(digest("key-of-booth")) not in shown
    assert "Playback(id='p'" in shown
