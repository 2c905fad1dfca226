"""``[[webhooks]]``: what is loaded, and the exact line that each mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd.config import WEBHOOK_TYPES, Webhook
from tests.config.tools import load_text, problems

SECRET = "whsec_c2VjcmV0LXRoYXQtaXMtbG9uZy1lbm91Z2gtZm9yLXVz"
URL = 'url = "https://app.example.org/t0ken"\n'
HEAD = '[[webhooks]]\nname = "app"\nsecret_file = "secret"\n'
EXPECTED = 'expected a URL like "https://app.example.org/hooks/ingestd"'
PRIVATE = "expected a public one, or allow_private = true if it is meant"


@pytest.fixture(autouse=True)
def secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "empty").write_text("# nothing\n")


def test_none_is_fine(tmp_path: Path) -> None:
    assert load_text(tmp_path).webhooks == ()


def test_all_of_it(tmp_path: Path) -> None:
    """The path of the secret is absolute, the rest as it stands; the second has the defaults."""
    text = (
        HEAD
        + URL
        + 'events = ["sink", "stream.live"]\nstreams = ["cam"]\nallow_private = true\ntimeout = "2s"\n'
        '[[webhooks]]\nname = "b"\nurl = "https://b.example.org"\nsecret_file = "secret"'
    )
    one, two = load_text(tmp_path, text).webhooks
    assert one == Webhook(
        name="app", url="https://app.example.org/t0ken", secret_file=str(tmp_path / "secret"),
        events=("sink", "stream.live"), streams=("cam",), allow_private=True, timeout=2.0,
    )  # fmt: skip
    assert (two.events, two.streams, two.allow_private) == (WEBHOOK_TYPES, (), False)


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1/", "http://localhost:9000/x", "https://[::1]/", "https://169.254.169.254/latest"],
)
def test_what_allow_private_is_for(tmp_path: Path, url: str) -> None:
    assert load_text(tmp_path, f'{HEAD}url = "{url}"\nallow_private = true').webhooks[0].url == url


URLS = [
    ("", EXPECTED),
    ("app.example.org", EXPECTED),
    ("ftp://app.example.org/", EXPECTED),
    ("https:///t0ken", EXPECTED),
    ("https://app.example.org:0/", EXPECTED),
    ("https://app.example.org:x/", f"{EXPECTED}; this one cannot be read"),
    ("https://[::1/t0ken", f"{EXPECTED}; this one cannot be read"),
    ("https://user:t0ken@app.example.org/",
     f"{EXPECTED} without user and password: requests are signed, see secret_file"),
    ("https://app.example.org/#t0ken", f"{EXPECTED}, without a fragment"),
    ("https://äpp.example.org/", f"{EXPECTED}, of printable ASCII without spaces (xn--… for other letters)"),
    ("https://app.example.org/t0 ken",
     f"{EXPECTED}, of printable ASCII without spaces (xn--… for other letters)"),
    ("http://app.example.org/",
     f"{EXPECTED}: http:// is for your own network only; allow_private = true if this is it"),
    ("https://127.0.0.1/t0ken", f"the address is loopback; {PRIVATE}"),
    ("https://169.254.169.254/t0ken", f"the address is link-local; {PRIVATE}"),
    ("https://[::ffff:10.0.0.1]/t0ken", f"the address is private; {PRIVATE}"),
    ("https://[fe80::1%25eth0]/t0ken", f"the address is link-local; {PRIVATE}"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "problem"), URLS)
def test_urls(tmp_path: Path, url: str, problem: str) -> None:
    """The URL is not repeated: it may have a secret in it."""
    assert problems(tmp_path, f'{HEAD}url = "{url}"') == [f"ingestd.toml: webhooks.app.url: {problem}"]


MISTAKES = [
    ("webhooks = 1", "webhooks: expected [[webhooks]] tables, got an integer"),
    ("[webhooks]\nname = 1", "webhooks: expected [[webhooks]] tables, got a table"),
    ('[[webhooks]]\nname = "app"\n' + URL, "webhooks.app.secret_file: is missing"),
    ('[[webhooks]]\nname = "app"\nsecret_file = ""\n' + URL,
     'webhooks.app.secret_file: expected a path, or "credential:NAME"'),
    ('[[webhooks]]\nname = "app"\nsecret_file = "none"\n' + URL,
     "webhooks.app.secret_file: cannot read none: No such file or directory; expected a file with the key"),
    ('[[webhooks]]\nname = "app"\nsecret_file = "empty"\n' + URL,
     'webhooks.app.secret_file: empty: expected 1 to 8 secrets, got 0; '
     '`echo "whsec_$(openssl rand -base64 32)"` makes one'),
    ('[[webhooks]]\nname = "My app"\nsecret_file = "secret"\n' + URL,
     'webhooks.#1.name: expected a name of 1 to 64 of a-z 0-9 "_" "-" that begins with a letter or digit'),
    ('[[webhooks]]\nsecret_file = "secret"\n' + URL, "webhooks.#1.name: is missing"),
    (HEAD + URL + HEAD + URL, 'webhooks.app.name: a second one is named "app"; give each its own name'),
    (HEAD + URL + "evnts = []", 'webhooks.app.evnts: unknown key, did you mean "events"?'),
    (HEAD + URL + "events = []", "webhooks.app.events: expected 1 to 100 values, got 0"),
    (HEAD + URL + 'events = ["stream.lve"]',
     "webhooks.app.events: expected one of stream.live, stream.interrupted, stream.resumed, stream.ended, "
     "stream.failed, sink.failed, sink.recovered, recording.ready, or stream, sink, recording "
     "for all of a kind"),
    (HEAD + URL + 'streams = ["A"]',
     'webhooks.app.streams: expected a name of 1 to 64 of a-z 0-9 "_" "-" '
     "that begins with a letter or digit"),
    (HEAD + URL + 'timeout = "2m"', "webhooks.app.timeout: expected 100ms to 1m; got 2m"),
    ("[notify]\nmax_pending = 9", "notify.max_pending: expected 10 to 100000; got 9"),
    ("[notify]\nconcurrency = 65", "notify.concurrency: expected 1 to 64; got 65"),
    ('[notify]\nretry_for = "1s"', "notify.retry_for: expected 1m to 30d; got 1s"),
    ('[notify]\nkeep_for = "1m"', "notify.keep_for: expected 1h to 3650d; got 1m"),
    ("[notify]\nkeep = 1", "notify.keep: expected 100 to 10000000; got 1"),
    ("[notify]\nbackoff = []", "notify.backoff: expected 1 to 100 values, got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), MISTAKES)
def test_mistakes(tmp_path: Path, text: str, problem: str) -> None:
    """One mistake, one line."""
    assert problems(tmp_path, text) == [f"ingestd.toml: {problem}"]


def test_how_many_there_may_be(tmp_path: Path) -> None:
    table = '[[webhooks]]\nname = "a{}"\nsecret_file = "secret"\n' + URL
    assert len(load_text(tmp_path, "".join(table.format(n) for n in range(100))).webhooks) == 100
    assert problems(tmp_path, "".join(table.format(n) for n in range(101))) == [
        "ingestd.toml: webhooks: expected at most 100 of them, got 101"
    ]
