"""The file of rows that could not be written into the database yet: JSON lines, replaced as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import cattrs
import structlog
from attrs import frozen

from ingestd.registry.model import RecordingRow, SessionRow

log = structlog.get_logger(__name__)


@frozen(slots=True, kw_only=True)
class Forgotten:
    """A recording whose row is to go."""

    id: str


Row: TypeAlias = SessionRow | RecordingRow | Forgotten

_KINDS: dict[str, type[Row]] = {"session": SessionRow, "recording": RecordingRow, "forgotten": Forgotten}
_NAMES: dict[type[Any], str] = {kind: name for name, kind in _KINDS.items()}
_STRICT = cattrs.Converter(forbid_extra_keys=True)


def save_rows(path: Path, rows: Sequence[Row]) -> None:
    """Replace *path*; without *rows* remove it. Raises OSError. Blocks."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_suffix(".new")
    lines = (json.dumps({_NAMES[type(row)]: cattrs.unstructure(row)}) for row in rows)
    descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def load_rows(path: Path) -> list[Row]:
    """The rows in *path*; none where it is not there. What cannot be read is logged. Blocks."""
    try:
        lines = path.read_text("ascii", "replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("ledger_not_restored", cause=error.strerror, file=str(path))
        return []
    rows, bad = [], 0
    for line in lines:
        try:
            ((name, values),) = json.loads(line).items()
            rows.append(_STRICT.structure(values, _KINDS[name]))
        except Exception:
            bad += 1
    if bad:
        log.warning("ledger_not_restored", cause=f"{bad} lines are no rows", file=str(path))
    return rows
