"""All streams in memory, so that no publisher ever waits for the database."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator

from attrs import evolve

from ingestd.auth.question import Unknown
from ingestd.config import StreamConfig
from ingestd.errors import IngestdError
from ingestd.registry.keys import digest
from ingestd.registry.model import Stream
from ingestd.registry.paging import LARGEST, Page, decode_cursor, encode_cursor

_NO_DIGEST = bytes(32)


class StreamTaken(IngestdError):
    """Another stream has this name or this key: choose another one."""


def declared(streams: Iterable[StreamConfig], now: float) -> list[Stream]:
    """The streams of ``ingestd.toml``, as the registry has them. *now* is when they were first seen."""
    return [
        Stream(
            name=stream.name,
            pipeline=stream.pipeline,
            key_sha256=stream.key_sha256,
            declared=True,
            created=now,
            updated=now,
        )
        for stream in streams
    ]


class Directory:
    """The streams by name and by key: those declared, which are always there, and those registered.

    *loaded* is False until `fill` has brought the registered ones: until then an unknown key may yet
    turn out to be a stream's, and its publisher should be asked to come again.
    """

    def __init__(self, declared: Iterable[Stream] = ()) -> None:
        self.loaded = False
        #: Called when `fill` has brought the registered streams.
        self.when_filled: list[Callable[[], None]] = []
        self._declared = {stream.name: stream for stream in declared}
        self._streams: dict[str, Stream] = {}
        self._by_key: dict[bytes, Stream] = {}
        for stream in self._declared.values():
            self._take(stream)

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        return iter([self._streams[name] for name in self.names])

    @property
    def names(self) -> list[str]:
        return sorted(self._streams)

    def get(self, name: str) -> Stream | None:
        return self._streams.get(name)

    def life(self, name: str) -> str | None:
        """`Stream.life` of the stream *name*; None if there is none. Raises `Unknown` while that is open."""
        stream = self._streams.get(name)
        if stream is None and not self.loaded:
            raise Unknown("the streams are not all known yet: the database is away")
        return stream.life if stream is not None else None

    def find(self, key: str) -> Stream | None:
        """The stream of *key*, enabled or not.

        Looked up by the key's SHA-256, so the time that it takes tells nothing: neither how much of a
        guess was right, since no guess steers its digest towards another, nor how many streams there are.
        """
        wanted = digest(key)
        found = self._by_key.get(wanted)
        same = hmac.compare_digest(found.key_sha256 if found else _NO_DIGEST, wanted)
        return found if same else None

    def put(self, stream: Stream) -> None:
        """Add *stream*, or replace the one of its name.

        Raises `StreamTaken` when its key is another stream's, or when it is not declared and a declared
        one has its name. Of a declared stream the pipeline and the key stay as the file has them.
        """
        first = self._declared.get(stream.name)
        if first is not None:
            if not stream.declared:
                raise StreamTaken(
                    f'a stream "{stream.name}" is declared in ingestd.toml; choose another name'
                )
            stream = evolve(stream, pipeline=first.pipeline, key_sha256=first.key_sha256)
        self._take(stream)

    def remove(self, name: str) -> Stream | None:
        """Forget the stream *name* and return it. One that is declared stays: its file has to change."""
        if name in self._declared:
            return None
        stream = self._streams.pop(name, None)
        if stream is not None:
            del self._by_key[stream.key_sha256]
        return stream

    def page(
        self, limit: int, cursor: str | None = None, where: Callable[[Stream], bool] = lambda _: True
    ) -> Page[Stream]:
        """At most *limit* of the streams that *where* takes, by name. Raises `BadCursor`."""
        (after,) = decode_cursor(cursor, str) if cursor is not None else ("",)
        limit = max(1, min(limit, LARGEST))
        found = [stream for stream in self if stream.name > after and where(stream)]
        more = encode_cursor([found[limit - 1].name]) if len(found) > limit else None
        return Page(tuple(found[:limit]), more)

    def fill(self, registered: Iterable[Stream]) -> list[str]:
        """Take what the database has in place of all registered streams; from now on it is *loaded*.

        What the database knows of a declared stream (whether it is enabled, its targets, …) is added to
        it; of one that is declared no more nothing is taken. Returns the names of the streams that are
        hidden because ``ingestd.toml`` declares a stream with the same name or key.
        """
        for name in self.names:
            self.remove(name)
        hidden = []
        for stream in registered:
            if stream.declared and stream.name not in self._declared:
                continue
            try:
                self.put(stream)
            except StreamTaken:
                hidden.append(stream.name)
        self.loaded = True
        for tell in self.when_filled:
            tell()
        return hidden

    def _take(self, stream: Stream) -> None:
        owner = self._by_key.get(stream.key_sha256)
        if owner is not None and owner.name != stream.name:
            raise StreamTaken(f'stream "{owner.name}" has the same key; give each stream its own')
        before = self._streams.get(stream.name)
        if before is not None:
            del self._by_key[before.key_sha256]
        self._streams[stream.name] = stream
        self._by_key[stream.key_sha256] = stream
