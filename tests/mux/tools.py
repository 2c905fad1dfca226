"""What these tests share: a configuration for the fake, and events as Mux would send them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ingestd.config import MuxConfig, SupervisorConfig
from ingestd.mux.model import LiveStreamOptions
from ingestd.registry.database import Database
from ingestd.registry.migrations import migrate
from tests.support.fake_mux import TOKEN_ID, TOKEN_SECRET, WEBHOOK_SECRET

OPTIONS = LiveStreamOptions(latency_mode="low", reconnect_window=120.0, playback_policy="public")
#: Fast enough for a short reconnect window at the fake.
QUICK = SupervisorConfig(backoff=(0.1,), stall_timeout=0.5, retry_failed_every=0.1)


def mux_config(directory: Path, api: str, **changes: Any) -> MuxConfig:
    """``[mux]`` for the fake at *api*, with its token and secret in files of *directory*."""
    for name, secret in (("id", TOKEN_ID), ("secret", TOKEN_SECRET), ("webhook", WEBHOOK_SECRET)):
        (directory / name).write_text(f"{secret}\n")
    made = {
        "token_id_file": str(directory / "id"),
        "token_secret_file": str(directory / "secret"),
        "webhook_secret_file": str(directory / "webhook"),
        "api": api,
    }
    return MuxConfig(**{**made, **changes})


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Database]:
    """A database in *directory*."""
    database = Database("", directory, timeout=0.5)
    await database.open(migrate)
    yield database
    await database.close()
