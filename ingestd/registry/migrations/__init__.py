"""The schema's versions, and how a database comes to the newest: at the daemon's start, in one transaction.

A new version is a file in ``versions/`` that goes on from the last one; `REVISIONS` is the order.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from ingestd.registry.database import DatabaseRefused

#: Any number, but always this one: daemons that start at once migrate one after the other.
_LOCK = 0x696E67657374


def migrate(connection: Connection) -> str:
    """Bring the database of *connection*, in whose transaction this happens, to the newest schema.

    Returns that schema's name. Raises `DatabaseRefused` when a newer daemon has used the database.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    config = configuration()
    config.attributes["connection"] = connection
    check_known(current(connection))
    command.upgrade(config, "head")
    return newest()


def is_current(connection: Connection) -> bool:
    """Whether the database has the newest schema. Raises `DatabaseRefused` when it has a newer one."""
    revision = current(connection)
    check_known(revision)
    return revision == newest()


def current(connection: Connection) -> str | None:
    """The schema that the database has; None for one that has none."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The schema that this daemon has."""
    head = ScriptDirectory.from_config(configuration()).get_current_head()
    assert head is not None  # noqa: S101  there is a first one
    return head


def check_known(revision: str | None) -> None:
    """Raise `DatabaseRefused` unless this daemon knows the schema *revision*."""
    script = ScriptDirectory.from_config(configuration())
    if revision is not None and revision not in {each.revision for each in script.walk_revisions()}:
        raise DatabaseRefused(
            f'the database has schema "{revision}" of a newer ingestd; this one knows up to "{newest()}": '
            "run the newer one, or restore a backup that was made before it"
        )


def configuration() -> Config:
    """Alembic's, without a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
