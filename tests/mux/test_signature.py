"""Webhook signatures: Mux's pass, everything else does not."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.mux.signature import LONGEST, MOST, SignatureMalformed, SignatureWrong, verify

SECRET, NOW = "correct-horse-battery", 1_700_000_000
WRONG = "0" * 64

bodies = st.binary(max_size=200)
secrets = st.text("abcdefghijk-", min_size=1, max_size=20)


def v1(body: bytes, secret: str = SECRET, at: int | str = NOW) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def signed(body: bytes, secret: str = SECRET, at: int | str = NOW) -> str:
    return f"t={at},v1={v1(body, secret, at)}"


def passes(header: str | None, body: bytes, secrets: Sequence[str] = (SECRET,), now: float = NOW) -> bool:
    try:
        verify(header, body, secrets, now)
    except (SignatureMalformed, SignatureWrong):
        return False
    return True


def test_the_example_of_the_documentation_is_read() -> None:
    """The documented header parses; it is of another body and another time."""
    with pytest.raises(SignatureWrong, match="webhook_secret_file"):
        verify(
            "t=1565220904,v1=20c75c1180c701ee8a796e81507cfd5c932fc17cf63a4a55566fd38da3a2d3d2",
            b"{}", [SECRET], 1565220904,
        )  # fmt: skip


@given(bodies, secrets, st.integers(0, 10**11))
def test_what_was_signed_with_our_secret_passes(body: bytes, secret: str, at: int) -> None:
    verify(signed(body, secret, at), body, [secret], at)


@given(bodies, bodies, secrets, secrets, st.integers(-1, 1))
def test_another_body_secret_or_time_does_not(
    body: bytes, other: bytes, secret: str, another: str, later: int
) -> None:
    """It passes only when all three are those that were signed."""
    header = signed(body, secret).replace(f"t={NOW}", f"t={NOW + later}")
    assert passes(header, other, [another]) == (body == other and secret == another and later == 0)


@given(bodies, st.lists(secrets, unique=True, min_size=1, max_size=4), st.data())
def test_one_of_several_values_and_secrets_is_enough(
    body: bytes, ours: list[str], data: st.DataObject
) -> None:
    """While a secret is being replaced, Mux or we may have two."""
    theirs = data.draw(st.lists(secrets, unique=True, max_size=4))
    header = ",".join([f"t={NOW}", f"v1={WRONG}", *(f"v1={v1(body, each)}" for each in theirs)])
    assert passes(header, body, ours) == bool(set(ours) & set(theirs))


@pytest.mark.parametrize(
    ("off", "good"), [(0, True), (299, True), (300, True), (301, False), (-300, True), (-301, False)]
)
def test_the_time_may_be_off_by_300_seconds_either_way(off: int, good: bool) -> None:
    assert passes(signed(b"body", at=NOW + off), b"body") is good


@given(st.text(max_size=100) | st.from_regex(r"(t=[0-9]{0,3}|v1=[0-9a-f]{0,66}|,| )*", fullmatch=True))
def test_no_header_does_more_than_be_refused(header: str) -> None:
    """Whatever stands in it, one of the two errors comes out."""
    assert not passes(header, b"body")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (None, "there is no Mux-Signature header"),
        ("", "one t=SECONDS"),
        (f"v1={WRONG}", "one t=SECONDS"),
        (f"t={NOW}", "1 to 16 v1=HEX"),
        (f"t={NOW},t={NOW},v1={WRONG}", "one t=SECONDS"),
        (f"t=-1,v1={WRONG}", "one t=SECONDS"),
        (f"t=١,v1={WRONG}", "one t=SECONDS"),
        (f"t={'9' * 13},v1={WRONG}", "one t=SECONDS"),
        (f"t={NOW},v1=short", "64 digits"),
        (f"t={NOW},v1={'A' * 64}", "64 digits"),
        (f"t={NOW},v0={WRONG}", "1 to 16 v1=HEX"),
        (f"t={NOW}" + f",v1={WRONG}" * (MOST + 1), "1 to 16 v1=HEX"),
        (f"t={NOW},v1={WRONG}".ljust(LONGEST + 1), f"up to {LONGEST}"),
    ],
)
def test_what_is_no_signature_is_said_to_be_none(header: str | None, says: str) -> None:
    with pytest.raises(SignatureMalformed, match=re.escape(says)):
        verify(header, b"body", [SECRET], NOW)


def test_other_schemes_and_spaces_are_passed_over() -> None:
    assert passes(f" t={NOW} , v0=x, v2=y,{signed(b'body').split(',')[1]} ", b"body")


def test_as_many_values_as_allowed_are_looked_at() -> None:
    header = f"t={NOW}" + f",v1={WRONG}" * (MOST - 1) + f",v1={v1(b'body')}"
    assert passes(header, b"body")


def test_no_secret_means_nothing_passes() -> None:
    assert not passes(signed(b"body"), b"body", [])


def test_errors_tell_no_secret_and_no_value() -> None:
    with pytest.raises(SignatureWrong) as caught:
        verify(signed(b"other"), b"body", [SECRET], NOW)
    assert SECRET not in str(caught.value)
    assert v1(b"body") not in str(caught.value)
