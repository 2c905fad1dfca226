"""The helpers that every later test relies on to notice what was left behind or is not installed."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.support import packages
from tests.support.processes import (
    LeftBehindError,
    descendants,
    free_ports,
    nothing_left_behind,
    wait_listening,
)


def test_a_running_child_is_noticed() -> None:
    """A child that still runs is named with its command line; one that is reaped is not."""
    with nothing_left_behind(grace=0):
        subprocess.run([sys.executable, "-c", "pass"], check=True)
    child = None
    try:
        with pytest.raises(LeftBehindError, match="sleep 30"), nothing_left_behind(grace=0):
            child = subprocess.Popen(["sleep", "30"])
    finally:
        assert child is not None
        child.kill()
        child.wait()
    assert child.pid not in descendants()


def test_an_unreaped_child_is_noticed() -> None:
    """A dead child that nobody waited for counts, too."""
    child = None
    try:
        with pytest.raises(LeftBehindError, match=r"\[Z\]"), nothing_left_behind(grace=0.3):
            child = subprocess.Popen(["true"])
    finally:
        assert child is not None
        child.wait()


def test_free_ports_are_free_and_different() -> None:
    """Each can be listened on; waiting for one nobody listens on fails."""
    ports = free_ports(3)
    assert len(set(ports)) == 3
    with socket.create_server(("127.0.0.1", ports[0])):
        wait_listening(ports[0], timeout=5)
    with pytest.raises(AssertionError, match=f"nothing listens on 127.0.0.1:{ports[1]}"):
        wait_listening(ports[1], timeout=0.1)


def test_a_missing_program_fails_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """No skip: the message is what to type."""
    monkeypatch.setattr(packages, "_search_path", lambda: "/nonexistent")
    command = r"mkvmerge is missing: sudo apt-get install -y --no-install-recommends mkvtoolnix"
    with pytest.raises(packages.MissingProgramError, match=command):
        packages.program("mkvmerge")
    assert {"chromium", "ffmpeg", "mkvtoolnix", "nginx-light", "nodejs"} <= set(packages.missing_packages())
