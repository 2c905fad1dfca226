"""A scenario: which faults strike, how often, and what the run must still come to."""

from __future__ import annotations

import random
from typing import Literal

from attrs import field, frozen

from chaos.faults import Fault
from ingestd.client import Buffer


@frozen(slots=True, kw_only=True)
class Scenario:
    """Declares one kind of run.

    At each moment one of *faults* is drawn; *every* is the mean number of seconds between two moments, the
    first comes after *first*, and the last *tail* seconds are left in peace, so that what was hurt last can
    come back. *once*: the fault ends the publication, so there is one moment only.

    TOML: *config*, within ``[journal]`` at first; *ingest* within that section; *pipeline* in front of the
    sinks, *push* within the RTMP sink. *stall_timeout* is the supervisors'.

    *network* puts the publisher into a network namespace; *disk* is the size of a file system of its own for
    the daemon's state, where it matters; *gate* puts one before the RTMP server. With *returns* a
    publisher that has lost its connection comes back, with a new recorder. A *resumable* one goes on with the
    same, and sends again what is not acknowledged, as long as its *buffer* has it. *gaps*: each fault
    takes longer than that, and costs one stretch.

    *ends* is the state that the stream must come to, *whole* whether every chunk must be accepted: of
    a publisher that *returns*, of its last recorder.
    """

    name: str
    about: str
    faults: tuple[Fault, ...]
    every: float = 7.0
    first: float = 4.0
    tail: float = 9.0
    once: bool = False
    config: str = ""
    ingest: str = ""
    pipeline: str = ""
    push: str = ""
    stall_timeout: str = "2s"
    network: bool = False
    disk: str | None = None
    gate: bool = False
    returns: bool = False
    publisher: Literal["plain", "resumable"] = "plain"
    buffer: Buffer = field(factory=Buffer)
    gaps: bool = False
    ends: Literal["ended", "failed"] = "ended"
    whole: bool = True

    def rng(self, seed: int) -> random.Random:
        """What decides everything in the run *seed*; `moments` come first."""
        return random.Random(f"{self.name} {seed}")

    def moments(self, rng: random.Random, seconds: float) -> list[float]:
        """When faults strike in a run of *seconds*: at least once."""
        at = self.first + rng.uniform(0, self.every / 2)
        moments = [at]
        while not self.once and (at := at + self.every * rng.uniform(0.7, 1.3)) < seconds - self.tail:
            moments.append(at)
        return moments

    @property
    def resumable(self) -> bool:
        """Whether the publisher is."""
        return self.publisher == "resumable"

    @property
    def hit(self) -> set[str]:
        """What its faults hurt."""
        return {fault.hurts for fault in self.faults}

    @property
    def cuts_rtmp(self) -> bool:
        """Whether a fault may interrupt the RTMP connection; in all other runs it must stay the same."""
        return not self.hit.isdisjoint({"rtmp", "daemon"})
