"""`ingestd backup` and `ingestd restore`: whole copies, while the daemon runs, and back."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from ingestd.cli import main
from ingestd.registry.backup import BackupFailed, back_up, restore
from ingestd.registry.database import Database
from ingestd.registry.migrations import migrate
from ingestd.registry.model import Stream
from ingestd.registry.streams import add_stream, all_streams, drop_stream
from ingestd.state_lock import state_lock
from tests.config.tools import write
from tests.registry.tools import SEALER, stream
from tests.support.packages import postgresql
from tests.support.postgres import Postgres


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "var").mkdir()
    return write(tmp_path)


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], prog_name="ingestd")


def streams(state: Path, url: str = "") -> list[Stream]:
    async def read() -> list[Stream]:
        database = Database(url, state)
        try:
            await database.open(migrate)
            return await database.read(all_streams, SEALER)
        finally:
            await database.close()

    return trio.run(read)


def change(state: Path, *, add: str = "", drop: str = "", url: str = "") -> None:
    async def work() -> None:
        database = Database(url, state)
        await database.open(migrate)
        if add:
            await database.run(add_stream, stream(add), SEALER)
        if drop:
            await database.run(drop_stream, drop)
        await database.close()

    trio.run(work)


def test_a_backup_is_put_back(config: Path, tmp_path: Path) -> None:
    """All is as it was then, and what was there before the restore is kept."""
    state, file = tmp_path / "var", tmp_path / "backup.db"
    change(state, add="one")
    done = run("backup", file, "--config", config)
    assert (done.exit_code, done.output) == (0, f"wrote {file} ({file.stat().st_size} bytes)\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    change(state, add="two", drop="one")
    for number in (1, 2):
        done = run("restore", file, "--config", config)
        kept = state / f"ingestd.db.before-restore-{number}"
        assert (done.exit_code, done.output) == (
            0, f"restored {state}/ingestd.db\nthe one before is {kept}\n",
        )  # fmt: skip
        assert streams(state) == [stream("one")]
    kept = state / "ingestd.db.before-restore-1"
    assert streams(state, f"sqlite:///{kept}") == [stream("two")]
    assert sorted(path.name for path in state.iterdir() if path.name.startswith(".")) == []


def test_a_restore_needs_no_database(config: Path, tmp_path: Path) -> None:
    """On a new machine there is none."""
    state, file = tmp_path / "var", tmp_path / "backup.db"
    change(state, add="one")
    run("backup", file, "--config", config)
    shutil.rmtree(state)
    done = run("restore", file, "--config", config)
    assert (done.exit_code, done.output) == (0, f"restored {state}/ingestd.db\n")
    assert streams(state) == [stream("one")]


async def test_a_backup_is_one_moment_of_a_database_in_use(config: Path, tmp_path: Path) -> None:
    """Writers go on meanwhile; each copy is whole, and has all that was stored before it began."""
    state = tmp_path / "var"
    database = Database("", state)
    await database.open(migrate)
    stored = 0
    over = False

    async def write() -> None:
        nonlocal stored
        while not over:
            await database.run(add_stream, stream(f"s{stored:04}"), SEALER)
            stored += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        for number in range(5):
            before, file = stored, tmp_path / f"{number}.db"
            await trio.to_thread.run_sync(back_up, state / "ingestd.db", file)
            await trio.sleep(0.05)
            copy = Database(f"sqlite:///{file}", state)
            found = await copy.open(lambda connection: all_streams(connection, SEALER))
            await copy.close()
            assert [each.name for each in found] == [f"s{n:04}" for n in range(len(found))]
            assert before <= len(found) <= stored + 1
        over = True
    assert stored > 0
    await database.close()


def test_nothing_is_replaced_unasked(config: Path, tmp_path: Path) -> None:
    state, file = tmp_path / "var", tmp_path / "backup.db"
    change(state, add="one")
    file.write_text("precious")
    done = run("backup", file, "--config", config)
    assert (done.exit_code, done.stderr) == (1, f"Error: {file}: is there already; --force replaces it\n")
    assert file.read_text() == "precious"
    assert run("backup", file, "--config", config, "--force").exit_code == 0


def test_a_copy_that_was_killed_is_in_nobodys_way(config: Path, tmp_path: Path) -> None:
    """In a container the next one may have the same process number."""
    change(tmp_path / "var", add="one")
    file = tmp_path / "backup.db"
    (tmp_path / f".backup.db.{os.getpid()}").write_text("half of it")
    back_up(tmp_path / "var" / "ingestd.db", file)
    assert [path.name for path in tmp_path.glob(".backup*")] == []
    kept = restore(file, tmp_path / "var" / "ingestd.db")
    assert kept is not None
    assert {path.stat().st_mode & 0o777 for path in (file, kept, tmp_path / "var" / "ingestd.db")} == {0o600}


def test_a_restore_under_a_running_daemon_is_refused(config: Path, tmp_path: Path) -> None:
    state, file = tmp_path / "var", tmp_path / "backup.db"
    change(state, add="one")
    run("backup", file, "--config", config)
    with state_lock(state):
        done = run("restore", file, "--config", config)
    assert (done.exit_code, done.stderr) == (1, f"Error: a daemon works in {state}: stop it first\n")


def test_what_is_no_backup_is_not_put_in_place(config: Path, tmp_path: Path) -> None:
    """What was there stays: for any file, a damaged one, another program's, and a newer daemon's."""
    state, file = tmp_path / "var", tmp_path / "backup.db"
    change(state, add="one")
    assert run("restore", file, "--config", config).stderr == f"Error: there is no file {file}\n"

    run("backup", file, "--config", config)
    newer = tmp_path / "newer.db"
    shutil.copy(file, newer)
    with sqlite3.connect(newer) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '99'")
    raw.close()
    damaged = bytearray(file.read_bytes())
    damaged[4096:12288] = b"\xff" * 8192
    (tmp_path / "damaged.db").write_bytes(damaged)
    (tmp_path / "text.db").write_text("hello" * 1000)
    with sqlite3.connect(tmp_path / "other.db") as raw:
        raw.execute("CREATE TABLE x (y)")
    raw.close()
    for name, told in (
        ("newer.db", "of a newer ingestd"),
        ("damaged.db", "damaged"),
        ("text.db", "file is not a database"),
        ("other.db", "is no database of ingestd"),
    ):
        done = run("restore", tmp_path / name, "--config", config)
        assert done.exit_code == 1
        assert told in done.stderr or "malformed" in done.stderr, name
        assert str(tmp_path / name) in done.stderr
    assert streams(state) == [stream("one")]
    assert [path.name for path in state.glob("*restore*")] == []
    assert [path.name for path in state.glob(".*")] == []


def test_a_damaged_database_is_not_taken_for_a_backup(config: Path, tmp_path: Path) -> None:
    state, file = tmp_path / "var", tmp_path / "backup.db"
    with pytest.raises(BackupFailed, match="there is no database"):
        back_up(state / "ingestd.db", file)
    change(state, add="one")
    (state / "ingestd.db").write_text("hello" * 1000)
    assert run("backup", file, "--config", config).exit_code == 1
    change_target = tmp_path / "nowhere" / "backup.db"
    done = run("backup", change_target, "--config", config)
    assert (done.exit_code, done.stderr) == (
        1, f"Error: {change_target} cannot be written: No such file or directory\n",
    )  # fmt: skip
    assert not file.exists()


def test_postgresql_has_tools_of_its_own(tmp_path: Path) -> None:
    """They are named with all their arguments, and without the password."""
    config = write(
        tmp_path, '[database]\nurl = "postgresql+psycopg://me:hidden@db.example.org:5433/live?a=hidden"\n'
    )
    for command, told in (
        ("backup", "pg_dump --format=custom --file='a b' --dbname=postgresql://me@db.example.org:5433/live"),
        (
            "restore",
            "pg_restore --clean --if-exists --no-owner --single-transaction "
            "--dbname=postgresql://me@db.example.org:5433/live 'a b'",
        ),
    ):
        done = run(command, "a b", "--config", config)
        assert done.exit_code == 1
        assert done.stderr.splitlines()[1].strip() == told
        assert "hidden" not in done.stderr


def test_these_tools_do_it(tmp_path: Path, postgres: Postgres) -> None:
    """The very commands that are shown, with the server's programs."""
    with postgres.empty_database() as url:
        dump_and_restore(tmp_path, url)


def dump_and_restore(tmp_path: Path, url: str) -> None:
    file = tmp_path / "dump"
    config = write(tmp_path, f'[database]\nurl = "{url}"\n')
    change(tmp_path, add="one", url=url)
    for command in ("backup", "restore"):
        words = shlex.split(run(command, file, "--config", config).stderr.splitlines()[1])
        words[0] = postgresql(words[0])
        subprocess.run(words, check=True, timeout=60, capture_output=True)
        if command == "backup":
            change(tmp_path, add="two", drop="one", url=url)
    assert streams(tmp_path, url) == [stream("one")]
