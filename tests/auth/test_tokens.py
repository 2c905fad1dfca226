"""Tokens and their file: what a line says, who holds a token, and how long."""

from __future__ import annotations

import ast
import inspect
import os
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.auth import playback, sessions, tokens
from ingestd.auth.identity import SCOPES, Identity
from ingestd.auth.token_file import TokenFile
from ingestd.auth.tokens import (
    PREFIX,
    TokenLine,
    WrongLine,
    digest_of,
    find,
    new_token,
    parse_file,
    parse_line,
)
from tests.auth.serving import give

NOW = 1_800_000_000.0
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", fullmatch=True)
lines = st.builds(
    TokenLine,
    names,
    st.sets(st.sampled_from(SCOPES), min_size=1).map(frozenset),
    st.binary(min_size=32, max_size=32),
    st.none() | st.integers(0, 2**35).map(float),
)


@given(lines)
def test_a_line_says_what_it_was_written_from(line: TokenLine) -> None:
    assert parse_line(str(line)) == line


@given(st.text(max_size=200))
def test_any_text_is_a_line_or_wrong(text: str) -> None:
    """Nothing else comes of it, and what is wrong is not repeated."""
    try:
        said = str(parse_line(text))
    except WrongLine as error:
        said = str(error)
        text = text if len(text) > 4 else "?"
        if text in said:
            raise
    assert said


@given(st.lists(lines | st.text(max_size=80)))
def test_any_file_has_lines_and_faults(parts: list[TokenLine | str]) -> None:
    """Each line is taken or told of; a wrong one takes no other with it."""
    text = "\n".join(map(str, parts))
    good, wrong = parse_file(text)
    assert len({line.name for line in good}) == len(good)
    assert all(1 <= number <= len(text.splitlines()) for number, _ in wrong)


@pytest.mark.parametrize(
    "line",
    [
        "a:admin",
        "a::" + "0" * 64,
        "a:root:" + "0" * 64,
        "a:admin,admin:" + "0" * 64,
        "a:admin:" + "0" * 63,
        "a:admin:" + "G" * 64,
        ":admin:" + "0" * 64,
        "a b:admin:" + "0" * 64,
        "a:admin:" + "0" * 64 + ":2027-01-31",
        "a:admin:" + "0" * 64 + ":2027-01-31T00:00:00",
        "a:admin:" + "0" * 64 + ":2027-13-31T00:00:00Z",
        "a:admin:" + "0" * 64 + ":",
        "é:admin:" + "0" * 64,
    ],
)
def test_wrong_lines(line: str) -> None:
    with pytest.raises(WrongLine, match="expected"):
        parse_line(line)


def test_a_new_token_has_256_random_bits() -> None:
    made = {new_token() for _ in range(1000)}
    assert len(made) == 1000
    assert all(each.startswith(PREFIX) and len(each) == len(PREFIX) + 43 for each in made)


def test_the_holder_is_found_until_the_token_expires() -> None:
    """The second of the expiry itself is too late; any other token is nobody's."""
    token = new_token()
    some = [TokenLine(f"n{i}", frozenset({"read"}), digest_of(new_token())) for i in range(5)]
    some.insert(2, TokenLine("me", frozenset({"admin"}), digest_of(token), NOW))
    found = find(some, token, NOW - 1)
    assert found is not None
    assert (found.name, found.via, found.may("read")) == ("me", "token", True)
    assert find(some, token, NOW) is None
    for other in ("", token[:-1], token + "x", token.upper(), "\ud800", "x" * 10_000):
        assert find(some, other, NOW - 1) is None


def test_admin_implies_publish_implies_read() -> None:
    """And never the other way."""
    for i, scope in enumerate(SCOPES):
        who = Identity("x", frozenset({scope}), "token")
        assert [who.may(each) for each in SCOPES] == [j <= i for j in range(len(SCOPES))]
        assert who.all_scopes == list(SCOPES[: i + 1])
    for pair in combinations(SCOPES, 2):
        assert Identity("x", frozenset(pair), "token").may(pair[1])
    assert not Identity("x", frozenset(), "token").may("read")


@pytest.mark.parametrize("module", [tokens, playback, sessions])
def test_secrets_are_compared_in_constant_time(module: object) -> None:
    """No == and no "in" has a digest, a MAC or a CSRF token on one side; hmac.compare_digest has."""
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    secret = {"digest", "mac", "csrf", "token", "shown"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = {
                part.id if isinstance(part, ast.Name) else part.attr
                for part in (node.left, *node.comparators)
                if isinstance(part, ast.Name | ast.Attribute)
            }
            operators = {type(each) for each in node.ops} - {ast.Is, ast.IsNot}
            assert not (sides & secret and operators), ast.unparse(node)
    assert "compare_digest" in ast.unparse(tree)


def test_every_line_is_compared() -> None:
    """The loop has no way out before its end, so that time does not tell where a token stands."""
    (loop,) = [
        node
        for node in ast.walk(ast.parse(inspect.getsource(tokens.find_digest)))
        if isinstance(node, ast.For)
    ]
    assert not [node for node in ast.walk(loop) if isinstance(node, ast.Return | ast.Break | ast.Raise)]


async def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A new token is good at once, and one whose line is gone is not."""
    first = give(tmp_path, "first", "admin")
    file = TokenFile(str(tmp_path / "tokens"))
    assert (await file.find(first)) is not None
    second = give(tmp_path, "second", "read")
    found = await file.find(second)
    assert found is not None
    kept = (tmp_path / "tokens").read_text().splitlines()[1]
    replaced = tmp_path / "new"
    replaced.write_text(f"# the others are gone\n\n{kept}\n")
    replaced.rename(tmp_path / "tokens")
    assert (await file.find(first)) is None
    assert (await file.still(found)) == found


async def test_without_the_file_nobody_is_known(tmp_path: Path) -> None:
    """It fails closed, and opens again; a wrong line is only nobody's."""
    token = give(tmp_path, "me", "admin")
    path = tmp_path / "tokens"
    file = TokenFile(str(path))
    text = path.read_text()
    path.unlink()
    assert (await file.find(token)) is None
    path.write_text("nonsense\n" + text)
    assert (await file.find(token)) is not None
    path.write_bytes(b"\0" * (2 * 2**20 + 1))
    assert (await file.find(token)) is None


async def test_a_change_of_the_same_size_is_seen(tmp_path: Path) -> None:
    """Even with the times of the file set back."""
    token = give(tmp_path, "me", "admin")
    path = tmp_path / "tokens"
    file = TokenFile(str(path))
    assert (await file.find(token)) is not None
    times = path.stat()
    path.write_text(path.read_text().replace(digest_of(token).hex(), digest_of("other").hex()))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (await file.find(token)) is None
    assert (await file.find("other")) is not None
