"""What is wrong with a set of TOML files, collected while they are read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ingestd.structure import Structurer

_MISSING = 'no such file; "ingestd init" writes a start configuration'


class Report:
    """Reads TOML files around the one at *path* and keeps every problem as one line.

    A line is ``file: key.path: what is wrong, what was expected, the fix``.
    """

    def __init__(self, path: Path) -> None:
        self.problems: list[str] = []
        self._path = path
        self._base = path.absolute().parent
        self._structurer = Structurer(self._base)

    def add(self, file: Path, key: str, text: str) -> None:
        """Note that *text* holds at *key* of *file*; an empty key means the file as a whole."""
        self.problems.append(f"{file}: {key}: {text}" if key else f"{file}: {text}")

    def shown(self, path: Path) -> Path:
        """*path* as the operator would name it: relative when the configuration's own path is."""
        if path.is_relative_to(self._base):
            return self._path.parent / path.relative_to(self._base)
        return path

    def read(self, path: Path) -> dict[str, Any] | None:
        """The parsed file, or None with a problem."""
        try:
            return tomllib.loads(path.read_text("utf-8"))
        except UnicodeDecodeError:
            self.add(path, "", "not valid TOML: expected UTF-8 text")
        except tomllib.TOMLDecodeError as error:
            self.add(path, "", f"not valid TOML: {error}")
        except (ValueError, RecursionError):  # digits without end, brackets without end
            self.add(path, "", "not usable TOML: a number is too long, or arrays are nested too deep")
        except FileNotFoundError:
            self.add(path, "", _MISSING)
        except OSError as error:
            self.add(path, "", f"cannot be read: {error.strerror}")
        return None

    def structure(self, file: Path, key: str, value: object, kind: type[Any]) -> Any:
        """*value*, which stands at *key* of *file*, as a *kind*; or None with problems."""
        result, problems = self._structurer.structure(value, kind)
        for path, text in problems:
            self.add(file, f"{key}.{path}" if path else key, text)
        return result
