"""Signatures as Standard Webhooks has them (https://www.standardwebhooks.com), version ``v1``. Sans-I/O."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable


def signed_headers(identity: str, at: float, body: bytes, secrets: Iterable[bytes]) -> dict[str, str]:
    """The headers of a message *identity*, sent *at* (seconds since 1970), signed with each of *secrets*.

    The receiver needs only one of them: so a secret can be replaced.
    """
    time = str(int(at))
    content = b".".join((identity.encode(), time.encode(), body))
    return {
        "webhook-id": identity,
        "webhook-timestamp": time,
        "webhook-signature": " ".join(f"v1,{_sign(secret, content)}" for secret in secrets),
    }


def _sign(secret: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()
