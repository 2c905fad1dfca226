"""[database]: its URLs and its files, and that no password of theirs is ever shown."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from ingestd.database_url import sqlite_path, without_password
from tests.config.tools import load_text, problems

GOOD = [
    "",
    "sqlite:////var/lib/x.db",
    "postgresql://user:p%40ss@db.example.org:5433/name?sslmode=require",
    "postgresql+psycopg://user@/name?host=/run/postgresql",
]
BAD = [
    "hidden",
    "mysql://u:hidden@h/x",
    "postgresql://u:hidden@h",
    "postgresql://u:hidden@h/",
    "postgresql://u:hidden@h:port-hidden/x",
    "postgresql://u:hid/den@h/x#y",
    "postgresql://u:[hidden@h/x",
    "sqlite://",
    "sqlite:///hidden.db",
    "sqlite:///:memory:",
    "sqlite:////tmp/",
    "sqlite:////tmp/hidden?mode=ro",
    "sqlite://hidden//tmp/x",
]


@pytest.mark.parametrize("url", GOOD)
def test_urls_that_are_taken(tmp_path: Path, url: str) -> None:
    loaded = load_text(tmp_path, f'[database]\nurl = "{url}"\n')
    assert loaded.database.url == url
    assert "ss@" not in repr(loaded)


@pytest.mark.parametrize("url", BAD)
@pytest.mark.parametrize("key", ["url", "url_file"])
def test_urls_that_are_not(tmp_path: Path, url: str, key: str) -> None:
    """Nothing of them is repeated, from wherever they came."""
    (tmp_path / "file").write_text(url)
    value = url if key == "url" else "file"
    (problem,) = problems(tmp_path, f'[database]\n{key} = "{value}"\n')
    assert problem.startswith(f"ingestd.toml: database.{key}: ")
    assert "expected" in problem
    assert "hid" not in problem


def test_a_url_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("postgresql://me:hidden@h/x\n")
    loaded = load_text(tmp_path, '[database]\nurl_file = "file"\n')
    assert loaded.database.url == "postgresql://me:hidden@h/x"
    assert "hidden" not in repr(loaded)


def test_mistakes_are_named(tmp_path: Path) -> None:
    good = base64.b64encode(b"k" * 32).decode()
    (tmp_path / "good").write_text(f"{good}\n{good}\n")
    (tmp_path / "bad").write_text(f"{good}\nhidden\n")
    load_text(
        tmp_path, '[database]\nsecret_key_file = "good"\npool = 64\nmax_pending = 100\ntimeout = "1m"\n'
    )
    for text, told in (
        (
            'url = "sqlite:////x"\nurl_file = "x"',
            "database: expected at most one of url and url_file, got both",
        ),
        ('secret_key_file = "bad"', "database.secret_key_file: bad, line 2: expected 32 bytes in base64"),
        ('secret_key_file = "none"', "database.secret_key_file: cannot read none: No such file"),
        ('url_file = "none"', "database.url_file: cannot read none: No such file"),
        ("pool = 0", "database.pool: expected 1 to 64; got 0"),
        ("pool = 65", "database.pool: expected 1 to 64; got 65"),
        ('timeout = "99ms"', "database.timeout: expected 100ms to 1m; got 99ms"),
        ("max_pending = 99", "database.max_pending: expected 100 to 1000000; got 99"),
    ):
        (problem,) = problems(tmp_path, f"[database]\n{text}\n")
        assert problem.startswith(f"ingestd.toml: {told}")
        assert "hidden" not in problem


def test_where_sqlite_is(tmp_path: Path) -> None:
    assert sqlite_path("", tmp_path) == tmp_path / "ingestd.db"
    assert sqlite_path("sqlite:////a%20b/c.db", tmp_path) == Path("/a b/c.db")
    assert sqlite_path("postgresql://h/x", tmp_path) is None


def test_a_url_without_its_secrets() -> None:
    shown = without_password("postgresql+psycopg://u:p@ss@h:1/x?password=y")
    assert shown == "postgresql://u@h:1/x"
