"""URLs of databases, checked and shown. No message and no result shows a password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ingestd.errors import IngestdError

#: Both mean psycopg 3: the first is what everybody writes, the second SQLAlchemy's own spelling.
POSTGRESQL = ("postgresql", "postgresql+psycopg")
EXPECTED = '"" (SQLite in storage.state_dir), "sqlite:////absolute/path.db" or "postgresql://user:password@host/name"'


class DatabaseUrlError(IngestdError):
    """The text is no URL of a database that ingestd can use; nothing of it is in the message."""


def check_database_url(url: str) -> None:
    """Raise `DatabaseUrlError` unless *url* is one of those that `EXPECTED` names."""
    if not url:
        return
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  looking at it checks it
    except ValueError:  # whose text may quote a password with a slash or a colon in it
        raise DatabaseUrlError(
            f"this URL cannot be read; expected {EXPECTED}, with %xx for : / ? # @ in a password"
        ) from None
    if parts.scheme == "sqlite":
        path = unquote(parts.path)[1:]
        if parts.netloc or not path.startswith("/") or path.endswith("/") or "\0" in path or parts.query:
            raise DatabaseUrlError('expected four slashes and a file: "sqlite:////absolute/path.db"')
    elif parts.scheme not in POSTGRESQL or len(parts.path) < 2 or parts.fragment:
        raise DatabaseUrlError(f"expected {EXPECTED}")


def sqlite_path(url: str, state_dir: Path) -> Path | None:
    """The file of an SQLite *url*; None for a server's."""
    if not url:
        return state_dir / "ingestd.db"
    parts = urlsplit(url)
    return Path(unquote(parts.path)[1:]) if parts.scheme == "sqlite" else None


def without_password(url: str) -> str:
    """*url* as people may see it: without its password, and without parameters, which may have one, too."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return f"{POSTGRESQL[0]}://{user.partition(':')[0]}{at}{host}{parts.path}"
