"""What a process holds of its host: memory, files, sockets. Read from Linux's ``/proc``."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import trio
from attrs import define, field


def memory(pid: int) -> tuple[int, int]:
    """What process *pid* has resident now, and had at most, in bytes; (0, 0) if there is none."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", text, re.MULTILINE))
        return int(found.get("VmRSS", 0)) * 1024, int(found.get("VmHWM", 0)) * 1024
    return 0, 0


def peak_memory(pid: int) -> int:
    """The most that process *pid* ever had resident, in bytes."""
    return memory(pid)[1]


@define(eq=False)
class Resident:
    """What was resident, in bytes, each second: *samples*."""

    samples: list[int] = field(factory=list)

    async def watch(self, pid: Callable[[], int]) -> None:
        """Take a sample a second of the process that *pid* then tells, until cancelled."""
        while True:
            if now := memory(pid())[0]:
                self.samples.append(now)
            await trio.sleep(1)

    def halves(self) -> tuple[int, int] | None:
        """The medians of the first and of the second half; None of less than two samples."""
        middle = len(self.samples) // 2
        if not middle:
            return None
        first, second = self.samples[:middle], self.samples[-middle:]
        return round(statistics.median(first)), round(statistics.median(second))


def open_files(pid: int) -> Counter[str]:
    """What process *pid* has open: paths, ``socket``, ``pipe``, ``anon_inode``, and how many of each."""
    found: Counter[str] = Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            name = str(descriptor.readlink())
            found[name if name.startswith("/") else name.partition(":")[0]] += 1
    return found
