"""Units: what people write, what comes out, and what a mistake is answered with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ingestd import units
from ingestd.address import Address
from ingestd.units import UnitError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("500ms", 0.5),
        ("2s", 2),
        ("1.5s", 1.5),
        ("2 s", 2),
        ("5m", 300),
        ("1h", 3600),
        ("7d", 604800),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations are seconds."""
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1B", 1),
        ("64KiB", 65536),
        ("16MiB", 2**24),
        ("2GB", 2 * 10**9),
        ("2kB", 2000),
        ("1.5GiB", 1610612736),
        ("1TiB", 2**40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """The i makes the power of 1024."""
    assert units.parse_size(text) == size


@pytest.mark.parametrize(("text", "rate"), [("2500k", 2_500_000), ("4M", 4_000_000), ("1.5M", 1_500_000)])
def test_rates(text: str, rate: int) -> None:
    """Rates are powers of 1000."""
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("live-1.example.org:80", ("live-1.example.org", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    """Host and port, IPv6 without its brackets; str() of an Address is what was parsed."""
    assert units.parse_address(text) == address
    assert str(Address(host=address[0], port=address[1])) == text


DURATION = 'expected a duration like "2s" (units: ms, s, m, h, d), got '
SIZE = 'expected a size like "16MiB" (units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), got '
RATE = 'expected a bit rate like "2500k" (units: k, M), got '
PICTURE = 'expected a width and height like "1280x720", got '
ADDRESS = 'expected host:port like "127.0.0.1:8080" or "[::1]:8080" (0.0.0.0 for all), got '
PORT = "expected a port from 0 to 65535 (0 = any free port), got "


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (units.parse_duration, "2", DURATION + '"2"'),
        (units.parse_duration, "2sec", DURATION + '"2sec"'),
        (units.parse_duration, "5S", DURATION + '"5S", did you mean "5s"?'),
        (units.parse_duration, "-1s", DURATION + '"-1s"'),
        (units.parse_duration, "", DURATION + '""'),
        (units.parse_duration, "1h30m", DURATION + '"1h30m"'),
        (units.parse_size, "16M", SIZE + '"16M"'),
        (units.parse_size, "16mib", SIZE + '"16mib", did you mean "16MiB"?'),
        (units.parse_size, "١MiB", SIZE + '"١MiB"'),
        (units.parse_rate, "2500", RATE + '"2500"'),
        (units.parse_rate, "2500K", RATE + '"2500K", did you mean "2500k"?'),
        (units.parse_rate, "2500kbps", RATE + '"2500kbps"'),
        (units.parse_picture, "1280", PICTURE + '"1280"'),
        (units.parse_picture, "1280:720", PICTURE + '"1280:720"'),
        (units.parse_address, "8080", ADDRESS + '"8080"'),
        (units.parse_address, ":8080", ADDRESS + '":8080"'),
        (units.parse_address, "::1:8080", ADDRESS + '"::1:8080"'),
        (units.parse_address, "[127.0.0.1]:1", ADDRESS + '"[127.0.0.1]:1"'),
        (units.parse_address, "localhost:65536", PORT + '"65536"'),
        (units.parse_address, "localhost:http", PORT + '"http"'),
        (units.parse_address, "localhost:", PORT + '""'),
    ],
)
def test_mistakes_say_what_was_expected(parse: Callable[[str], object], text: str, message: str) -> None:
    """Each message has an example, and a nearby spelling where there is one."""
    with pytest.raises(UnitError) as caught:
        parse(text)
    assert str(caught.value) == message


@given(st.integers(0, 10**12))
def test_formatted_values_parse_back(number: int) -> None:
    """format_* and parse_* are inverse for whole milliseconds, bytes and bits per second."""
    assert units.parse_size(units.format_size(number)) == number
    assert units.parse_rate(units.format_rate(number)) == number
    seconds = number / 1000
    assert round(units.parse_duration(units.format_duration(seconds)), 3) == round(seconds, 3)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    """Only what no other machine can reach is loopback; all interfaces are not."""
    assert Address(host=host, port=1).is_loopback is loopback


ALL = "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        (ALL, "127.0.0.1", True),
        ("127.0.0.1", ALL, True),
        (ALL, "LOCALHOST", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::", "::1", True),
        ("::1", "::1", True),
        ("::", "127.0.0.1", False),
        (ALL, "::1", False),
        ("::", ALL, False),
    ],
)
async def test_overlaps(first: str, second: str, overlap: bool) -> None:
    """As the sockets say, which listen as the daemon does; port 0 is never the same."""
    try:
        (listener,) = await trio.open_tcp_listeners(0, host=first)
    except OSError:
        pytest.skip("no IPv6 here")
    async with listener:
        port = listener.socket.getsockname()[1]
        assert Address(host=first, port=port).overlaps(Address(host=second, port=port)) is overlap
        with pytest.raises(OSError, match="in use") if overlap else nullcontext():
            for other in await trio.open_tcp_listeners(port, host=second):
                await other.aclose()
    assert not Address(host=first, port=0).overlaps(Address(host=second, port=0))
    assert not Address(host=first, port=port).overlaps(Address(host=second, port=port - 1))
