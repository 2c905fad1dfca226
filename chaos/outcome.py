"""Where runs are made, and what comes of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import define, field, frozen

from chaos.checks import SinkCount, Violation

PROGRAM = ("-m", "ingestd")


@frozen(slots=True)
class Bench:
    """*work* holds the cards and the directories of failed runs; a run publishes for *seconds*."""

    work: Path
    seconds: float
    program: Sequence[str] = PROGRAM
    keep: bool = False


@frozen(slots=True)
class Strike:
    """A *fault* that struck; *recovered* seconds later all was well again, None where nothing comes back."""

    fault: str
    recovered: float | None


@define(slots=True, kw_only=True)
class Outcome:
    """What came of one run. Times in seconds, memory in bytes; *kept* is its directory, if it is there.

    *resident* are the medians of the daemon's memory in both halves of the live part, *descriptors* how
    many it had open before and after, *drift* how far sound and picture moved apart.
    """

    scenario: str
    seed: int
    published: int = 0
    accepted: int = 0
    recorded: int = 0
    sinks: dict[str, SinkCount] = field(factory=dict)
    strikes: list[Strike] = field(factory=list)
    peak_memory: int = 0
    resident: tuple[int, int] | None = None
    descriptors: tuple[int, int] | None = None
    drift: float | None = None
    violations: list[Violation] = field(factory=list)
    kept: Path | None = None
    took: float = 0.0

    @property
    def good(self) -> bool:
        return not self.violations

    @property
    def recovered(self) -> list[float]:
        """How long each took of those that came back."""
        return [strike.recovered for strike in self.strikes if strike.recovered is not None]
