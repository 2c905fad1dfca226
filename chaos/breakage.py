"""A daemon with one piece broken on purpose: ``python -m chaos.breakage NAME run --config PATH``.

The product has no switch for any of this: the piece is replaced in the process, before the command line
starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from attrs import evolve

from ingestd.cli import main
from ingestd.live.batch import Mark
from ingestd.live.hub import Hub, Subscription
from ingestd.live.ingest import Ingest, Seat
from ingestd.live.spool import Spool

_FRAMES_LATE = 5


def _mid_gop() -> None:
    """A subscription begins some frames behind its random access point."""
    subscribe = Hub.subscribe

    def late(self: Hub, policy: Any, start: Any = None) -> Subscription:
        start = start or self.newest_mark()
        if isinstance(start, int) and start:
            start = min(start + _FRAMES_LATE, self.next_seq)
        elif isinstance(start, Mark) and start.seq:
            start = evolve(start, seq=min(start.seq + _FRAMES_LATE, self.next_seq))
        return subscribe(self, policy, start)

    Hub.subscribe = late  # type: ignore[method-assign]


def _unbounded() -> None:
    """The hub's window lets go of nothing."""
    Hub._trim = lambda _self: None  # type: ignore[method-assign,assignment]


def _early_acknowledgement() -> None:
    """A chunk counts as accepted before it is written."""
    publish, take, count = Ingest._publish, Spool.take, Ingest._count

    async def publishing(self: Ingest, seat: Seat, source: Spool) -> bool:
        async def counted_first(spool: Spool, chunk: bytes, **how: Any) -> None:
            if spool is source:
                count(self, chunk)
            await take(spool, chunk, **how)

        Spool.take = counted_first  # type: ignore[method-assign,assignment]
        Ingest._count = lambda _self, _chunk: None  # type: ignore[method-assign,assignment]
        return await publish(self, seat, source)

    Ingest._publish = publishing  # type: ignore[method-assign]


def _no_replay() -> None:
    """What has left the hub's window is not read back from the journal."""
    create = Spool.create.__func__  # type: ignore[attr-defined]

    def without(cls: type[Spool], *args: Any, **kwargs: Any) -> Spool:
        spool: Spool = create(cls, *args, **kwargs)
        spool.hub.replay = None
        return spool

    Spool.create = classmethod(without)  # type: ignore[method-assign,assignment]


BREAKAGES: dict[str, Callable[[], None]] = {
    "mid-gop": _mid_gop,
    "unbounded": _unbounded,
    "early-acknowledgement": _early_acknowledgement,
    "no-replay": _no_replay,
}

if __name__ == "__main__":
    BREAKAGES[sys.argv.pop(1)]()
    main()
