"""What could keep a daemon of this configuration from doing its work, looked for without disturbing one.

Nothing is contacted but this machine, unless it is asked for (`ingestd.doctor.targets`).
"""

from __future__ import annotations

from ingestd.config import Config
from ingestd.doctor import ffmpeg, host, ports, state, targets
from ingestd.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]


async def examine(config: Config, *, contact: bool = False) -> list[Finding]:
    """Every check, in the order in which one would mend things; *contact* tries the targets of pushes."""
    return [
        *await ffmpeg.examine(config),
        *await state.examine(config),
        *await ports.examine(config),
        host.clock(),
        *await host.synchronisation(),
        host.descriptors(config),
        *await targets.examine(config, contact=contact),
    ]
