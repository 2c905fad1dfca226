"""Durations, sizes, bit rates, picture sizes and addresses as people write them.

Each ``parse_*`` raises `UnitError`, whose text says what was expected, with an example; it reads as
the end of a sentence that starts with the key. Each ``format_*`` gives the shortest spelling that
parses back to the same value.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address

_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_RATES = {"k": 10**3, "M": 10**6}
_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s?([A-Za-z]*)", re.ASCII)
_PICTURE = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)
_FREQUENCY = re.compile(r"(\d{1,9})/(.{1,20})", re.ASCII)
_HOST = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}(?<!-)", re.ASCII)


class UnitError(ValueError):
    """A text does not follow the unit it should; *str()* says what was expected, with an example."""


def parse_duration(text: str) -> float:
    """``"500ms"``, ``"2s"``, ``"5m"``, ``"1h"``, ``"7d"`` or ``"0"`` in seconds."""
    return _parse(text, _DURATIONS, 'a duration like "2s" (units: ms, s, m, h, d)')


def parse_size(text: str) -> int:
    """``"64KiB"``, ``"16MiB"``, ``"2GB"`` (powers of 1000 without the i) or ``"0"`` in bytes."""
    return round(_parse(text, _SIZES, 'a size like "16MiB" (units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)'))


def parse_rate(text: str) -> int:
    """``"2500k"`` or ``"4M"`` (powers of 1000, as FFmpeg has them) in bits per second."""
    return round(_parse(text, _RATES, 'a bit rate like "2500k" (units: k, M)'))


def parse_picture(text: str) -> tuple[int, int]:
    """``"1280x720"`` as width and height in pixels."""
    found = _PICTURE.fullmatch(text)
    if found is None:
        raise UnitError(f'expected a width and height like "1280x720", got "{text}"')
    return int(found[1]), int(found[2])


def parse_frequency(text: str) -> tuple[int, float]:
    """``"10/1m"`` as how often, and in how many seconds; ``"0"`` is no limit, (0, 0.0)."""
    if text == "0":
        return 0, 0.0
    found = _FREQUENCY.fullmatch(text)
    if found is None:
        raise UnitError(f'expected how often in which time, like "10/1m" (0 = no limit), got "{text}"')
    return int(found[1]), parse_duration(found[2])


def parse_address(text: str) -> tuple[str, int]:
    """``"host:port"`` as host and port; an IPv6 address is in brackets, and comes out without them."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        valid = _is_ipv6(host)
    else:
        valid = _HOST.fullmatch(host) is not None
    if not (colon and valid):
        raise UnitError(
            f'expected host:port like "127.0.0.1:8080" or "[::1]:8080" (0.0.0.0 for all), got "{text}"'
        )
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise UnitError(f'expected a port from 0 to 65535 (0 = any free port), got "{port}"')
    return host, int(port)


def format_duration(seconds: float) -> str:
    """The shortest spelling of *seconds*, exact to the millisecond; ``"0s"`` for none."""
    milliseconds = round(seconds * 1000)
    for unit, factor in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % factor == 0 and (milliseconds or unit == "s"):
            return f"{milliseconds // factor}{unit}"
    return f"{milliseconds}ms"


def format_size(size: int) -> str:
    """The shortest exact spelling of *size* bytes."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return f"{size}B"


def format_rate(rate: int) -> str:
    """The shortest exact spelling of *rate* bits per second."""
    for unit in ("M", "k"):
        if rate and rate % _RATES[unit] == 0:
            return f"{rate // _RATES[unit]}{unit}"
    return f"{rate / 1000:.3f}".rstrip("0").rstrip(".") + "k"


def _parse(text: str, units: dict[str, float] | dict[str, int], expected: str) -> float:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise UnitError(f'expected {expected}, got "{text}"')
    number, unit = found[1], found[2]
    if not unit and float(number) == 0:
        return 0.0
    if unit in units:
        return float(number) * units[unit]
    near = next((name for name in units if name.lower() == unit.lower()), None)
    hint = f', did you mean "{number}{near}"?' if near else ""
    raise UnitError(f'expected {expected}, got "{text}"{hint}')


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True
