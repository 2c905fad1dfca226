"""The journal's index: which bytes of which recorder's file are which chunk.

A 16-byte magic, then little-endian records of 32 bytes: chunk number (u64), recorder (u32, from 1, as
in the file's name), size (u32), offset in the recorder's file (u64), arrival (f64, seconds since 1970).
A long chunk has several records: the top bit of *size* tells that more of it follows. A torn last
record, and bytes behind the last record's, were never acknowledged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from attrs import frozen

from ingestd.errors import IngestdError

INDEX_MAGIC = b"ingestd-journal1"
INDEX_RECORD = struct.Struct("<QIIQd")

_MORE = 1 << 31


class IndexUnreadable(IngestdError):
    """It is no index of a journal."""


@frozen(slots=True)
class IndexEntry:
    """*size* bytes at *offset* of *recorder* (from 1) belong to *chunk*; with *more* it has further ones."""

    chunk: int
    recorder: int
    size: int
    offset: int
    arrival: float
    more: bool = False

    def pack(self) -> bytes:
        """The record."""
        size = self.size | _MORE if self.more else self.size
        return INDEX_RECORD.pack(self.chunk, self.recorder, size, self.offset, self.arrival)


def parse_index(data: bytes) -> Iterator[IndexEntry]:
    """The whole records of the index *data*. Raises `IndexUnreadable`."""
    if not data.startswith(INDEX_MAGIC):
        raise IndexUnreadable("it does not begin as an index of a journal does")
    body = memoryview(data)[len(INDEX_MAGIC) :]
    whole = len(body) - len(body) % INDEX_RECORD.size
    for chunk, recorder, size, offset, arrival in INDEX_RECORD.iter_unpack(body[:whole]):
        yield IndexEntry(chunk, recorder, size & ~_MORE, offset, arrival, more=bool(size & _MORE))
