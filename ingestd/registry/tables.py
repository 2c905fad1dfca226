"""The tables of the registry. A change here needs a migration (`ingestd.registry.migrations`).

Times are seconds since the epoch. There is no foreign key to ``streams`` where rows outlive their stream,
or belong to one that only ``ingestd.toml`` has.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

streams = Table(
    "streams",
    metadata,
    Column("name", Text, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("key_sha256", LargeBinary, nullable=False, unique=True),
    Column("enabled", Boolean, nullable=False),
    Column("declared", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("title", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("playback", JSON, nullable=False),
    Column("mux", JSON(none_as_null=True)),
)

targets = Table(
    "targets",
    metadata,
    Column("stream", ForeignKey(streams.c.name, ondelete="CASCADE"), primary_key=True),
    Column("sink", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    # A session's id is the time of its beginning: two streams may have the same.
    Column("stream", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("started", Double, nullable=False),
    Column("ended", Double),
    Column("cause", Text),
    Column("chunks", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("gaps", BigInteger, nullable=False),
    Column("gap_seconds", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Index(None, "started", "stream", "id"),
    Index(None, "ended"),
)

recordings = Table(
    "recordings",
    metadata,
    Column("id", Text, primary_key=True),
    Column("stream", Text, nullable=False),
    Column("session", Text),
    Column("sink", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("changed", Double, nullable=False),
    Column("finished", Boolean, nullable=False),
    UniqueConstraint("stream", "file"),
    Index(None, "changed", "id"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key_sha256", LargeBinary, primary_key=True),
    Column("request_sha256", LargeBinary, nullable=False),
    Column("claimed", Double, nullable=False),
    Column("status", Integer),
    Column("sealed", LargeBinary),
    Index(None, "claimed"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created", Double, nullable=False),
    Column("next_attempt", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("delivered_at", Double),
    UniqueConstraint("endpoint", "event_id"),
    Index(None, "state", "next_attempt"),
    Index(None, "created", "id"),
)

leftovers = Table(
    "leftovers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("stream", Text, nullable=False),
    Column("stream_id", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("next_attempt", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),
)
