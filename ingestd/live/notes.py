"""Notes: what one part of a session must know when a later daemon takes the session up again.

One small JSON object a file in the session's journal directory, replaced whole. Notes survive the
daemon's death; after a power cut they may be older than what they tell of, or missing. All calls
block: use them in a thread.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from attrs import frozen


@frozen(slots=True)
class Notes:
    """The note at *path*."""

    path: Path

    def load(self) -> dict[str, Any] | None:
        """What was last saved; None if nothing was, or it cannot be read."""
        try:
            value = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def save(self, value: dict[str, Any]) -> None:
        """Replace what is there by *value*, in one step. Raises OSError, and then the old one stays."""
        try:
            self.fresh.write_text(json.dumps(value), "utf-8")
            os.replace(self.fresh, self.path)  # noqa: PTH105  says what it does
        except OSError:
            self.fresh.unlink(missing_ok=True)
            raise

    @property
    def fresh(self) -> Path:
        """What `save` writes before it has its name; a daemon that is killed may leave it."""
        return self.path.with_name(f"{self.path.name}.new")
