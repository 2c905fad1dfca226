"""The ring: bounded in bytes and in time, and beginning at a random access point whatever comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestd.live.ring import _OVERHEAD, Init, Message, Ring

INIT = Init("video/webm", b"init", "s", 0.0)
SIZE = 100
COST = SIZE + _OVERHEAD


def message(arrival: float, *, starts: bool = False, text: bool = False) -> Message:
    init = None if text else INIT
    return Message(b"m" * SIZE, 2, arrival, init, starts)


def ring(messages: int = 10, max_lag: float = 8.0) -> Ring:
    """A ring with room for so many messages."""
    return Ring(messages * COST, max_lag)


def group(made: Ring, size: int, at: float) -> None:
    """A random access point and what follows up to the next, all come at once."""
    for index in range(size):
        made.append(message(at, starts=index == 0))


def test_nothing_is_kept_before_the_first_random_access_point() -> None:
    """But the newest message can be had: whoever is there gets it."""
    made = ring()
    for at in range(3):
        made.append(message(at))
    assert (made.begin, made.end, made.newest_start, made.size) == (3, 3, None, 0)
    assert made.at(2) is not None
    assert made.at(1) is None


def test_a_full_ring_loses_its_oldest_group() -> None:
    """All of it at once: what is left begins at the next random access point."""
    made = ring(10)
    group(made, 4, 0.0)
    group(made, 6, 1.0)
    assert (made.begin, made.end, made.newest_start) == (0, 10, 4)
    made.append(message(1.0))
    assert (made.begin, made.end, made.newest_start) == (4, 11, 4)
    assert made.size == 7 * COST


def test_a_group_longer_than_the_ring_is_let_go() -> None:
    """There is nothing to begin with then until the next random access point; the bound holds."""
    made = ring(5)
    group(made, 9, 0.0)
    assert (made.begin, made.newest_start, made.size) == (9, None, 0)
    made.append(message(0.0))
    assert made.size == 0
    group(made, 2, 1.0)
    assert (made.begin, made.end, made.newest_start) == (10, 12, 10)


def test_what_nobody_may_lag_behind_goes() -> None:
    """A group goes when all of it is older than that: at the very edge it is still there."""
    made = ring(max_lag=8.0)
    group(made, 3, 0.0)
    group(made, 3, 1.0)
    made.append(message(9.0))
    assert made.begin == 0
    made.append(message(9.001))
    assert made.begin == 3
    made.append(message(60.0))
    assert made.begin == 3, "the newest group stays, however old it is"


def test_a_session_that_is_over_gives_nobody_a_start() -> None:
    """Who lags may keep up with what there is; the next session's first group pushes it out."""
    made = ring(max_lag=8.0)
    group(made, 3, 0.0)
    made.close(keep=True)
    assert (made.newest_start, made.begin) == (None, 0)
    group(made, 2, 1.0)
    assert (made.newest_start, made.begin) == (3, 0)
    made.append(message(20.0))
    assert made.begin == 3
    made.close(keep=False)
    assert (made.begin, made.size) == (made.end, 0)


@given(
    st.lists(st.tuples(st.sampled_from(["start", "media", "text"]), st.floats(0, 5)), max_size=60),
    st.integers(1, 12),
)
def test_whatever_comes_the_bounds_hold(steps: list[tuple[str, float]], room: int) -> None:
    """Bytes are bounded, what is kept begins at a random access point, and the newest is there."""
    made, now = ring(room, 3.0), 0.0
    for kind, step in steps:
        now += step
        made.append(message(now, starts=kind == "start", text=kind == "text"))
        assert made.size <= room * COST
        assert made.size == (made.end - made.begin) * COST
        first = made.at(made.begin) if made.begin < made.end else None
        assert first is None or first.starts
        newest = made.at(made.end - 1)
        assert newest is not None
        assert newest.arrival == now
        assert made.newest_start is None or made.at(made.newest_start).starts  # type: ignore[union-attr]
