"""Webhook signatures: who sent the body, and when. Sans-I/O.

``Mux-Signature: t=<unix>,v1=<hex>[,v1=<hex>…]``, each an HMAC-SHA256 with the endpoint's secret over
``<t>.<raw body>``; https://docs.mux.com/core/verify-webhook-signatures.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

from ingestd.errors import IngestdError

#: Seconds that the time of a signature may be off, into the past and into the future.
TOLERANCE = 300.0
#: What is looked at of a header.
LONGEST, MOST = 2048, 16

_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


class SignatureMalformed(IngestdError):
    """There is no signature, or it cannot be read: whoever sent this is not Mux."""


class SignatureWrong(IngestdError):
    """The signature is not of this body with one of our secrets, or not of now."""


def verify(
    header: str | None, body: bytes, secrets: Sequence[str], now: float, tolerance: float = TOLERANCE
) -> None:
    """Return if *body* was signed with one of *secrets* within *tolerance* of *now* (seconds since 1970).

    The time it takes tells nothing of the secrets, nor how much of a guess was right: every value is
    compared with every secret, in constant time. Raises `SignatureMalformed` and `SignatureWrong`.
    """
    time, values = _parse(header)
    good = False
    for secret in secrets:
        expected = hmac.new(secret.encode(), time.encode() + b"." + body, hashlib.sha256).hexdigest()
        for value in values:
            good |= hmac.compare_digest(expected.encode(), value.encode())
    if not good:
        raise SignatureWrong(
            "no v1 value fits the body; expected one by mux.webhook_secret_file's secret "
            "(each webhook in Mux's dashboard has its own)"
        )
    off = float(time) - now
    if abs(off) > tolerance:
        when = f"{abs(off):.0f} s {'old' if off < 0 else 'ahead'}"
        raise SignatureWrong(
            f"the signature is {when}; expected {tolerance:g} s at most; is this machine's clock right?"
        )


def _parse(header: str | None) -> tuple[str, list[str]]:
    """The time as it was written, because it is signed, and the v1 values. Other schemes are ignored."""
    if header is None:
        raise SignatureMalformed("there is no Mux-Signature header")
    if len(header) > LONGEST:
        raise SignatureMalformed(f"expected a Mux-Signature of up to {LONGEST} characters")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    values = [value for name, _, value in pairs if name == "v1"]
    if len(times) != 1 or _TIME.fullmatch(times[0]) is None:
        raise SignatureMalformed("expected one t=SECONDS in Mux-Signature")
    if not 1 <= len(values) <= MOST or not all(_HEX.fullmatch(value) for value in values):
        raise SignatureMalformed(f"expected 1 to {MOST} v1=HEX of 64 digits in Mux-Signature")
    return times[0], values
