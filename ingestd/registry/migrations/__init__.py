"""The schema's versions, and how a database comes to the newest: at the daemon's start, in one transaction.

A new version is a file in ``versions/`` that goes on from the last one; `REVISIONS` is the order. A database
that is empty gets the tables as they are now, which a test holds to what the versions make: Alembic, which is
large, is loaded only where there is something to migrate.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, inspect, text

from ingestd.registry.database import DatabaseRefused
from ingestd.registry.tables import metadata

#: The names of all versions, the oldest first.
REVISIONS = ("0001", "0002")
#: Any number, but always this one: daemons that start at once migrate one after the other.
_LOCK = 0x696E67657374
#: Alembic's own.
_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def migrate(connection: Connection) -> str:
    """Bring the database of *connection*, in whose transaction this happens, to the newest schema.

    Returns that schema's name. Raises `DatabaseRefused` when a newer daemon has used the database.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    revision = current(connection)
    check_known(revision)
    if revision is None:
        metadata.create_all(connection)
        _version.create(connection, checkfirst=True)
        connection.execute(_version.insert().values(version_num=newest()))
    elif revision != newest():
        from ingestd.registry.migrations.upgrade import upgrade

        upgrade(connection)
    return newest()


def is_current(connection: Connection) -> bool:
    """Whether the database has the newest schema. Raises `DatabaseRefused` when it has a newer one."""
    revision = current(connection)
    check_known(revision)
    return revision == newest()


def current(connection: Connection) -> str | None:
    """The schema that the database has; None for one that has none."""
    if not inspect(connection).has_table(_version.name):
        return None
    revision: str | None = connection.execute(_version.select()).scalar_one_or_none()
    return revision


def newest() -> str:
    """The schema that this daemon has."""
    return REVISIONS[-1]


def check_known(revision: str | None) -> None:
    """Raise `DatabaseRefused` unless this daemon knows the schema *revision*."""
    if revision is not None and revision not in REVISIONS:
        raise DatabaseRefused(
            f'the database has schema "{revision}" of a newer ingestd; this one knows up to "{newest()}": '
            "run the newer one, or restore a backup that was made before it"
        )
