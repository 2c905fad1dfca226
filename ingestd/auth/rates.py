"""How often something may be tried: token buckets, one for each client address and one for all together."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

import trio
from attrs import define, field

from ingestd.config import Frequency

MAX_CLIENTS = 10_000
"""Client addresses that are remembered; of more, the one that was quiet for the longest is forgotten."""


@define
class _Bucket:
    level: float
    at: float

    def fill(self, rate: Frequency, now: float) -> float:
        times, seconds = rate
        self.level = min(float(times), self.level + (now - self.at) * times / seconds)
        self.at = now
        return self.level


@define(eq=False)
class Rates:
    """Counts tries by client address; *each* and *in_all* say how many may be made in which time.

    When all addresses together have used up theirs, only those are held back that have tried lately
    themselves: strangers cannot lock out a client that makes no mistakes.
    """

    each: Frequency
    in_all: Frequency
    _clients: OrderedDict[str, _Bucket] = field(factory=OrderedDict, repr=False)
    _all: _Bucket | None = None

    def held_back(self, address: str) -> float:
        """Seconds until the client at *address* may try again; 0 if it may now."""
        now = trio.current_time()
        bucket = self._clients.get(client(address))
        if bucket is None:
            return 0.0
        waits = [0.0]
        if self.each[0]:
            waits.append(_wait(bucket, self.each, now))
        if self._all is not None and bucket.fill(self._own_rate, now) < self._own_rate[0]:
            waits.append(_wait(self._all, self.in_all, now))
        return max(waits)

    def count(self, address: str) -> None:
        """One more try by the client at *address*."""
        now = trio.current_time()
        key = client(address)
        bucket = self._clients.get(key)
        if bucket is None:
            bucket = self._clients[key] = _Bucket(self._own_rate[0], now)
            if len(self._clients) > MAX_CLIENTS:
                self._clients.popitem(last=False)
        self._clients.move_to_end(key)
        _take(bucket, self._own_rate, now)
        if self.in_all[0]:
            if self._all is None:
                self._all = _Bucket(self.in_all[0], now)
            _take(self._all, self.in_all, now)

    @property
    def _own_rate(self) -> Frequency:
        """Without a limit for each, a client has tried lately for as long as the limit of all counts."""
        return self.each if self.each[0] else (1, self.in_all[1] or 1.0)


def client(address: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 /64, or whatever else *address* is."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)


def _take(bucket: _Bucket, rate: Frequency, now: float) -> None:
    bucket.level = max(0.0, bucket.fill(rate, now) - 1)


def _wait(bucket: _Bucket, rate: Frequency, now: float) -> float:
    missing = 1 - bucket.fill(rate, now)
    # A bucket that is empty but for the rounding of floats is not full.
    return missing * rate[1] / rate[0] if missing > 1e-9 else 0.0
