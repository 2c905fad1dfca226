"""Signatures, as another implementation of Standard Webhooks checks them."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from ingestd.credentials import CredentialError, read_signing_secrets
from ingestd.notify.signature import signed_headers
from tests.notify.tools import OTHER_SECRET, SECRET, secret_file

BODY = b'{"type":"stream.live"}'


def test_what_the_specification_shows() -> None:
    """The example of the specification's reference implementations."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330.9, b'{"test": 2432232314}', [secret])
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET])
def test_each_of_several_secrets_is_enough(tmp_path: Path, secret: str) -> None:
    """While a secret is replaced a receiver may know the old one or the new one."""
    secrets = read_signing_secrets(secret_file(tmp_path, SECRET, "# the next one:", "", OTHER_SECRET))
    headers = signed_headers("evt_1", time.time(), BODY, secrets)
    assert Webhook(secret).verify(BODY, headers) == {"type": "stream.live"}


@pytest.mark.parametrize("wrong", ["webhook-id", "webhook-timestamp", "webhook-signature", "body", "secret"])
def test_all_of_it_is_signed(wrong: str) -> None:
    """Whoever changes anything is found out."""
    headers = signed_headers("evt_1", time.time(), BODY, [b"s" * 32])
    if wrong in headers:
        text = headers[wrong]
        headers[wrong] = text[:-3] + ("1" if text[-3] != "1" else "2") + text[-2:]
    body = BODY + b" " if wrong == "body" else BODY
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET if wrong == "secret" else SECRET).verify(body, headers)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([""], "expected 1 to 8 secrets, got 0"),
        ([SECRET] * 9, "expected 1 to 8 secrets, got 9"),
        ([SECRET.removeprefix("whsec_")], "line 1: expected whsec_ and 24 to 64 bytes in base64"),
        ([SECRET, "whsec_%%%%"], "line 2: expected whsec_"),
        (["whsec_" + base64.b64encode(b"s" * 23).decode()], "line 1: expected whsec_"),
        (["whsec_" + base64.b64encode(b"s" * 65).decode()], "line 1: expected whsec_"),
    ],
)
def test_secrets_that_are_none(tmp_path: Path, lines: list[str], problem: str) -> None:
    """The line is named, never shown."""
    with pytest.raises(CredentialError, match=problem) as caught:
        read_signing_secrets(secret_file(tmp_path, *lines))
    assert not any(line in str(caught.value) for line in lines if line)


@pytest.mark.parametrize("size", [24, 64])
def test_the_shortest_and_the_longest_secret(tmp_path: Path, size: int) -> None:
    secret = "whsec_" + base64.b64encode(b"s" * size).decode()
    assert read_signing_secrets(secret_file(tmp_path, *[secret] * 8)) == (b"s" * size,) * 8
