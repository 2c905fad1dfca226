"""One Chromium a module, with a fake camera, and one daemon that asks nobody for a token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.daemon.tools import ENCODE, HLS, MP4
from tests.support.daemon import Daemon, daemon
from tests.support.visitor import chromium

PIPELINE = ENCODE + HLS + MP4


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("daemon"), PIPELINE, control='pipeline = "test"\n') as made:
        yield made
