"""``ingestd token``, and the token that the other commands show."""

from __future__ import annotations

import re
import stat
import time
from pathlib import Path

from ingestd.auth.tokens import find, parse_file, parse_line
from tests.cli.tools import ingestd
from tests.daemon.tools import COPY
from tests.support.daemon import daemon

TOKEN = re.compile(r"ingestd_[A-Za-z0-9_-]{43}")


def test_a_new_token_is_printed_once(tmp_path: Path) -> None:
    """The token on stdout alone, for scripts; the line on stderr, with its hash and not the token."""
    made = ingestd("token", "new", "grafana", "--scope", "read", cwd=tmp_path)
    token = made.stdout.strip()
    assert (made.returncode, bool(TOKEN.fullmatch(token))) == (0, True)
    assert token not in made.stderr
    line = parse_line(made.stderr.splitlines()[-1])
    found = find([line], token, time.time())
    assert found is not None
    assert (found.name, found.all_scopes, found.expires) == ("grafana", ["read"], None)


def test_it_is_added_to_a_file_of_ones_own(tmp_path: Path) -> None:
    """0600, a line each, whatever the file ended with; an expiry is a time."""
    path = tmp_path / "tokens"
    first = ingestd("token", "new", "a", "--scope", "admin", "--to", path, cwd=tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text(path.read_text().rstrip("\n"))
    second = ingestd(
        "token", "new", "b", "--scope", "publish", "--scope", "read", "--expires", "90d", "--to", path,
        cwd=tmp_path,
    )  # fmt: skip
    lines, wrong = parse_file(path.read_text())
    assert ([line.name for line in lines], wrong) == (["a", "b"], [])
    assert abs((lines[1].expires or 0) - time.time() - 90 * 86_400) < 60
    for made in (first, second):
        assert made.stdout.strip() not in path.read_text() + made.stderr
    again = ingestd("token", "new", "b", "--scope", "read", "--to", path, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert "take it out" in again.stderr


def test_what_is_asked_wrongly(tmp_path: Path) -> None:
    for args in (("a b", "--scope", "read"), ("a",), ("a", "--scope", "root")):
        made = ingestd("token", "new", *args, cwd=tmp_path)
        assert (made.returncode, made.stdout) == (2, "")
    gone = ingestd("token", "new", "a", "--scope", "read", "--to", tmp_path / "no" / "file", cwd=tmp_path)
    assert (gone.returncode, gone.stdout) == (1, "")


def test_the_file_is_checked(tmp_path: Path) -> None:
    """Names, scopes, expiries; wrong lines and a wrong token make it fail; no hash is shown."""
    path = tmp_path / "tokens"
    token = ingestd("token", "new", "ops", "--scope", "admin", "--to", path, cwd=tmp_path).stdout.strip()
    with path.open("a") as file:
        file.write(f"old:read:{'0' * 64}:2020-01-01T00:00:00Z\n")
    good = ingestd("token", "check", path, cwd=tmp_path, INGESTD_TOKEN=token)
    assert good.returncode == 0
    assert "$INGESTD_TOKEN is ops's" in good.stderr
    assert "read, publish, admin" in good.stdout
    assert "(over)" in good.stdout
    assert path.read_text().split(":")[2] not in good.stdout + good.stderr
    assert ingestd("token", "check", path, cwd=tmp_path, INGESTD_TOKEN="x").returncode == 1
    with path.open("a") as file:
        file.write("nonsense\n")
    wrong = ingestd("token", "check", path, cwd=tmp_path)
    assert (wrong.returncode, "line 3: expected" in wrong.stderr) == (1, True)
    assert ingestd("token", "check", tmp_path / "none", cwd=tmp_path).returncode == 1


def test_the_commands_show_the_token(tmp_path: Path) -> None:
    """Where the daemon has tokens, $INGESTD_TOKEN opens it, and nothing of it is logged."""
    path = tmp_path / "tokens"
    token = ingestd("token", "new", "ops", "--scope", "read", "--to", path, cwd=tmp_path).stdout.strip()
    config = f'[auth]\ntokens_file = "{path}"\n'
    with daemon(tmp_path / "daemon", COPY, config=config) as running:
        url = f"http://{running.control}"
        good = ingestd("streams", "--url", url, cwd=tmp_path, INGESTD_TOKEN=token)
        assert (good.returncode, "cam" in good.stdout) == (0, True)
        none = ingestd("streams", "--url", url, cwd=tmp_path)
        assert none.returncode == 1
        assert "wants a token in $INGESTD_TOKEN" in none.stderr
        wrong = ingestd("streams", "--url", url, cwd=tmp_path, INGESTD_TOKEN="wrong-token")
        assert "wants another token" in wrong.stderr
        log = running.log.read_text()
    assert running.events("token_refused")[0]["remote"] == "127.0.0.1"
    assert token not in log
    assert "wrong-token" not in log
