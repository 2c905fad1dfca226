"""``[mux]``: what must fit together is told apart before the daemon runs."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from ingestd.config import MuxConfig, SupervisorConfig
from ingestd.credentials import CredentialError, read_secrets
from tests.config.tools import load_text, problems

SECRET = "correct-horse-battery-staple"
TOKENS = 'token_id_file = "id"\ntoken_secret_file = "secret"\n'
SEALS = '[database]\nsecret_key_file = "seal"\n'
PIPELINE = '[[sinks]]\ntype = "mux"\nper_stream = true\n'


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """The directory, with a token's files in it."""
    for name in ("id", "secret", "webhook"):
        (tmp_path / name).write_text(f"{SECRET}-{name}\n")
    (tmp_path / "seal").write_bytes(base64.b64encode(bytes(32)))
    return tmp_path


def test_nothing_is_set_up_by_itself(tmp_path: Path) -> None:
    assert load_text(tmp_path).mux == MuxConfig()
    assert not MuxConfig().enabled


def test_with_a_token_streams_get_their_own_keys(tokens: Path) -> None:
    """The token is not in the configuration."""
    config = load_text(tokens, f'{SEALS}[mux]\n{TOKENS}webhook_secret_file = "webhook"\n', live=PIPELINE)
    assert config.mux.enabled
    assert config.mux.token_id_file == str(tokens / "id")
    assert SECRET not in repr(config)


def test_what_mux_gives_has_to_be_sealed(tokens: Path) -> None:
    """Not when the first stream is made, but now."""
    (found,) = problems(tokens, f"[mux]\n{TOKENS}", live=PIPELINE)
    assert found.startswith(
        "ingestd.toml: database.secret_key_file: is missing: expected the file of the key"
    )
    assert "openssl rand" in found


@pytest.mark.parametrize("half", ["token_id_file", "token_secret_file"])
def test_half_a_token_is_none(half: str, tokens: Path) -> None:
    other = "token_secret_file" if half == "token_id_file" else "token_id_file"
    (found,) = problems(tokens, f'[mux]\n{half} = "id"\n')
    assert found == (f"ingestd.toml: mux.{other}: is missing: expected both halves of the token, or neither")


def test_files_are_read_at_the_start(tmp_path: Path) -> None:
    """What is in them is in no problem."""
    (tmp_path / "id").write_text(f"{SECRET} and more")
    (tmp_path / "webhook").write_text(f"{SECRET}\n" * 9)
    text = f'[mux]\n{TOKENS}webhook_secret_file = "webhook"\n'
    found = problems(tmp_path, text)
    assert [each.split(": ")[1] for each in found] == [
        "mux.token_id_file", "mux.token_secret_file", "mux.webhook_secret_file",
    ]  # fmt: skip
    assert SECRET not in "".join(found)


def test_credentials_of_the_service_manager(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tokens))
    text = '[mux]\ntoken_id_file = "credential:id"\ntoken_secret_file = "credential:secret"\n'
    assert load_text(tokens, text).mux.enabled


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("api.mux.com", "another scheme"),
        ("ftp://api.mux.com", "another scheme"),
        ("https://", "no host"),
        ("https://api.mux.com:0", "port 0"),
        ("https://api.mux.com:x", "cannot be parsed"),
        (f"https://user:{SECRET}@api.mux.com", "without user, password"),
        (f"https://api.mux.com?token={SECRET}", "without user, password"),
        ("http://api.mux.com", "in the clear"),
    ],
)
def test_unusable_addresses(url: str, says: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, f'[mux]\napi = "{url}"\n')
    assert found.startswith('ingestd.toml: mux.api: expected a URL like "https://api.mux.com"')
    assert says in found
    assert SECRET not in found


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:1", "https://x/y"]
)
def test_usable_addresses(url: str, tmp_path: Path) -> None:
    assert load_text(tmp_path, f'[mux]\napi = "{url}"\n').mux.api == url


def test_the_worst_recovery() -> None:
    """5 s to notice; 1, 2 and 3 s of waits, and 15 s an attempt; 30 s until the retry, which takes 10 s."""
    assert SupervisorConfig().worst_recovery(10.0) == 5 + (1 + 2 + 3) + 3 * 15 + 30 + 10
    assert SupervisorConfig(retry_failed_every=0).worst_recovery(10.0) == 66


@pytest.mark.parametrize("mode", ["standard", "reduced", "low"])
def test_the_default_window_is_long_enough_for_the_default_supervisor(mode: str, tokens: Path) -> None:
    """In every latency mode: Mux's own default would be none for two of them."""
    config = load_text(tokens, f'{SEALS}[mux]\n{TOKENS}latency_mode = "{mode}"\n', live=PIPELINE)
    assert config.mux.reconnect_window >= config.supervisor.worst_recovery(10.0)


def test_a_window_shorter_than_that_is_refused(tokens: Path) -> None:
    """To the second; the problem names both sides."""
    text = f'{SEALS}[mux]\n{TOKENS}reconnect_window = "95s"\n'
    (found,) = problems(tokens, text, live=PIPELINE)
    assert found.startswith("ingestd.toml: mux.reconnect_window: 95s is shorter than our worst recovery, 96s")
    for key in ("supervisor.backoff", "supervisor.stall_timeout", "supervisor.retry_failed_every"):
        assert key in found
    assert load_text(tokens, text.replace("95s", "96s"), live=PIPELINE).mux.reconnect_window == 96


def test_the_slowest_mux_sink_counts(tokens: Path) -> None:
    slow = f'{PIPELINE}timeout = "20s"\n'
    (found,) = problems(tokens, f"{SEALS}[mux]\n{TOKENS}", live=slow, other=PIPELINE)
    assert "our worst recovery, 136s" in found


def test_where_nothing_is_made_at_mux_its_window_is_not_ours(tokens: Path) -> None:
    """Somebody made the live stream by hand, with a window of its own."""
    keyed = '[[sinks]]\ntype = "mux"\nkey = "k"\n'
    text = f'[mux]\n{TOKENS}reconnect_window = "1s"\n'
    assert load_text(tokens, text, live=keyed).mux.reconnect_window == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('latency_mode = "fast"', 'expected one of "standard", "reduced", "low"'),
        ('reconnect_window = "31m"', "expected 1s to 30m"),
        ('reconnect_window = "0s"', "expected 1s to 30m"),
        ('playback_policy = "private"', 'expected one of "public", "signed"'),
        ("max_retries = 21", "expected 1 to 20, or 0 (none)"),
        ('max_webhook = "1000B"', "expected 1KiB to 16MiB"),
        ("hold_events = 0", "expected 1 to 100000"),
        ('token = "x"', "unknown key"),
        ('token_secret = "x"', 'unknown key, did you mean "token_secret_file"?'),
    ],
)
def test_limits(line: str, says: str, tmp_path: Path) -> None:
    assert any(says in found for found in problems(tmp_path, f"[mux]\n{line}\n"))


def test_secrets_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text("\n one \n\ntwo\n")
    assert read_secrets(str(file)) == ("one", "two")
    for content in ("", "\n", "one two", "x" * 2000, "\n".join("x" * 9)):
        file.write_text(content)
        with pytest.raises(CredentialError) as caught:
            read_secrets(str(file))
        assert "xxx" not in str(caught.value)
