"""Pages of rows by keyset: each cursor names the last row that was given, and nothing else is kept.

Rows that come or go meanwhile shift no page: each row that stays is given once.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from attrs import frozen
from sqlalchemy import Column, ColumnElement, Connection, Select, tuple_

from ingestd.errors import IngestdError

T = TypeVar("T")

#: The most that one page holds.
LARGEST = 1000
_LONGEST_CURSOR = 2000


class BadCursor(IngestdError):
    """The cursor is none that this listing gave: begin again without one."""

    def __init__(self) -> None:
        super().__init__("this cursor is none that this listing gave; begin without one")


@frozen(slots=True)
class Page(Generic[T]):
    """Some items, and the cursor of the page that follows; None where nothing does."""

    items: tuple[T, ...]
    next: str | None


def encode_cursor(values: Sequence[str | float]) -> str:
    """Opaque, and fit for a URL."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type[str] | type[float]) -> list[Any]:
    """The values in *cursor*, which are of *kinds*. Raises `BadCursor`."""
    try:
        if len(cursor) > _LONGEST_CURSOR:
            raise BadCursor
        padded = cursor + "=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):  # Unicode's errors are ValueErrors
        raise BadCursor from None
    if not isinstance(values, list) or len(values) != len(kinds):
        raise BadCursor
    for value, kind in zip(values, kinds, strict=True):
        if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
            raise BadCursor
        if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
            raise BadCursor
    return values


def newest_first(
    connection: Connection,
    rows: Select[Any],
    order: Sequence[Column[Any]],
    make: Callable[[Any], T],
    limit: int,
    cursor: str | None,
) -> Page[T]:
    """At most *limit* of *rows* by falling *order* (a time, then what tells rows of one time apart).

    *make* turns a row into an item. Raises `BadCursor`.
    """
    if cursor is not None:
        values = decode_cursor(cursor, float, *[str] * (len(order) - 1))
        rows = rows.where(tuple_(*order) < tuple_(*values))
    limit = max(1, min(limit, LARGEST))
    descending: list[ColumnElement[Any]] = [column.desc() for column in order]
    found = connection.execute(rows.order_by(*descending).limit(limit + 1)).all()
    last = found[limit - 1]._mapping if len(found) > limit else None
    return Page(
        tuple(make(row) for row in found[:limit]),
        encode_cursor([last[column.name] for column in order]) if last else None,
    )


def _is_unicode(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)
