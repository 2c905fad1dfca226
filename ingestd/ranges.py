"""Validators for configuration fields, with limits spelled as the TOML spells them.

They are plain attrs validators, so that a class built in Python is held to them too; the loader
calls them field by field, in order to report every field.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from ingestd.names import NAME, NAME_EXPECTED
from ingestd.origins import parse_origin
from ingestd.units import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)

Validator: TypeAlias = Callable[[Any, Any, Any], None]


def duration_between(low: str, high: str, *, zero: str = "") -> Validator:
    """A duration from *low* to *high*; with *zero*, 0 is allowed too and means that."""
    return _between(parse_duration(low), parse_duration(high), format_duration, zero)


def size_between(low: str, high: str, *, zero: str = "") -> Validator:
    """A size from *low* to *high*; with *zero*, 0 is allowed too and means that."""
    return _between(parse_size(low), parse_size(high), lambda size: format_size(round(size)), zero)


def rate_between(low: str, high: str) -> Validator:
    """A bit rate from *low* to *high*."""
    return _between(parse_rate(low), parse_rate(high), lambda rate: format_rate(round(rate)), "")


def number_between(low: float, high: float, *, zero: str = "") -> Validator:
    """A number from *low* to *high*; with *zero*, 0 is allowed too and means that."""
    return _between(low, high, _show_number, zero)


def one_of(*allowed: int) -> Validator:
    """One of the numbers *allowed*."""

    def validate(_instance: Any, _attribute: Any, value: Any) -> None:
        if value not in allowed:
            raise ValueError(f"expected one of {', '.join(map(str, allowed))}; got {_show_number(value)}")

    return validate


def one_of_types(known: tuple[str, ...]) -> Validator:
    """One of the dotted names *known*, or the first part of some."""

    def validate(_instance: Any, _attribute: Any, value: str) -> None:
        firsts = tuple(dict.fromkeys(name.partition(".")[0] for name in known))
        if value not in known + firsts:
            raise ValueError(f"expected one of {', '.join(known)}, or {', '.join(firsts)} for all of a kind")

    return validate


def stream_name(_instance: Any, _attribute: Any, value: str) -> None:
    """What a stream may be called."""
    if NAME.fullmatch(value) is None:
        raise ValueError(NAME_EXPECTED)


def picture_size(_instance: Any, _attribute: Any, value: Any) -> None:
    """Width and height that 4:2:0 video can have: even, from 16 to 4096."""
    if not all(16 <= side <= 4096 for side in value):
        raise ValueError(f'expected each side from 16 to 4096, got "{value[0]}x{value[1]}"')
    if any(side % 2 for side in value):
        even = "x".join(str(side - side % 2) for side in value)
        raise ValueError(f'expected even sides, got "{value[0]}x{value[1]}"; "{even}" would do')


def each(validator: Validator, *, at_most: int, at_least: int = 1) -> Validator:
    """A tuple of *at_least* to *at_most* values, each of which passes *validator*."""

    def validate(instance: Any, attribute: Any, value: Any) -> None:
        if not at_least <= len(value) <= at_most:
            raise ValueError(f"expected {at_least} to {at_most} values, got {len(value)}")
        for item in value:
            validator(instance, attribute, item)

    return validate


def _show_number(number: float) -> str:
    if isinstance(number, int):
        return str(number) if abs(number) < 10**15 else "a huge number"
    return f"{number:g}"


def _between(low: float, high: float, show: Callable[[float], str], zero: str) -> Validator:
    allowed = f"{show(low)} to {show(high)}" + (f", or 0 ({zero})" if zero else "")

    def validate(_instance: Any, _attribute: Any, value: Any) -> None:
        if not (low <= value <= high or (zero and value == 0)):
            raise ValueError(f"expected {allowed}; got {show(value)}")

    return validate


def colour(_instance: Any, _attribute: Any, value: str) -> None:
    """A colour as HTML spells it, ``#rrggbb``."""
    if re.fullmatch("#[0-9a-fA-F]{6}", value) is None:
        raise ValueError('expected a colour like "#101014"')


def text_at_most(longest: int) -> Validator:
    """Text of at most *longest* characters, with line breaks but no other control characters."""

    def check(_instance: Any, _attribute: Any, value: str) -> None:
        if len(value) > longest or any(c != "\n" and not c.isprintable() for c in value):
            raise ValueError(f"expected at most {longest} printable characters, or line breaks")

    return check


def frequency(_instance: Any, _attribute: Any, value: tuple[int, float]) -> None:
    """How often in which time: at least once, in 100 ms to a day; or (0, 0), no limit."""
    times, seconds = value
    if value != (0, 0.0) and not (1 <= times <= 1_000_000 and 0.1 <= seconds <= 86_400):
        raise ValueError('expected 1 to 1000000 times in 100ms to 1d, like "10/1m", or 0 (no limit)')


def origin_or_all(_instance: Any, _attribute: Any, value: str) -> None:
    """An origin as browsers spell it, or ``*``."""
    if value != "*" and (parse_origin(value) is None or str(parse_origin(value)) != value):
        example = '"https://live.example.org" or "http://localhost:3000"'
        raise ValueError(f'expected an origin like {example}, or "*"')


def network(_instance: Any, _attribute: Any, value: str) -> None:
    """An address, or a network in CIDR notation."""
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError('expected an address or a network like "127.0.0.1" or "10.0.0.0/8"') from None


def web_url(_instance: Any, _attribute: Any, value: str) -> None:
    """Empty, or an absolute http or https URL without a user, a password or a fragment."""
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good, parts = False, urlsplit("")
    if value and (not good or "@" in parts.netloc or parts.fragment or not value.isprintable()):
        raise ValueError('expected a URL like "https://app.example.org/hook", without user and password')
