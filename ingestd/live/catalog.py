"""The catalog: which files under ``recordings/<stream>/`` a sink has made, so that it removes no others.

One list a stream and sink, of JSON lines: ``begun`` names a file whose ``.part`` is being written, so
that a recovery after a crash knows whose it is; ``file`` one that gets its name now, with size and
time as they stay. A file that is not in the list, or no longer as the list has it, is somebody
else's. All calls block: use them in a thread. The list need not survive a power cut: what it then
lacks is not removed.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from attrs import define, frozen

from ingestd.sinks.base import Place
from ingestd.sinks.file import FileSink

#: One for all lists: a session appends to the one that the daemon's own round may be rewriting.
_LOCK = threading.RLock()
_SUFFIX = ".jsonl"
#: Lines about files that are gone, beyond as many as there are files: then the list is written anew.
_SLACK = 100


@frozen(slots=True)
class Entry:
    """A finished recording: its path below the stream's recordings, bytes, last change (ns since 1970)."""

    name: str
    size: int
    changed: int


@define(eq=False)
class Catalog:
    """The list at *path* of one sink's files below *root*."""

    path: Path
    root: Path

    @classmethod
    def of(cls, sink: FileSink, place: Place) -> Catalog | None:
        """The list of *sink* at *place*, or None where none are kept."""
        if place.catalog is None:
            return None
        return cls(place.catalog / f"{sink.name or sink.type}{_SUFFIX}", place.recordings)

    @classmethod
    def owner(cls, directory: Path, root: Path, name: str) -> Catalog | None:
        """The list in *directory* that says that it has begun the file *name* below *root*."""
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            catalog = cls(path, root)
            if any(line.get("begun") == name for line in catalog._lines()):
                return catalog
        return None

    def begin(self, name: str) -> None:
        """The ``.part`` of the file *name* is ours."""
        self._append({"begun": name})

    def note(self, name: str, source: Path) -> None:
        """*source*, which nobody writes to any more, is about to be given the name *name*."""
        found = source.stat()
        self._append({"file": name, "size": found.st_size, "changed": found.st_mtime_ns})

    def finished(self) -> list[Entry]:
        """The finished recordings that are there as they were made, the oldest first."""
        with _LOCK:
            entries: dict[str, Entry] = {}
            begun: set[str] = set()
            count = 0
            for line in self._lines():
                count += 1
                match line:
                    case {"file": str(name), "size": int(size), "changed": int(changed)}:
                        entries[name] = Entry(name, size, changed)
                    case {"begun": str(name)}:
                        begun.add(name)
            there = [entry for entry in entries.values() if self._is_ours(entry)]
            parts = sorted(name for name in begun | entries.keys() if self._has_part(name))
            if count > 2 * (len(there) + len(parts)) + _SLACK:
                # One that has its part still may be about to get its name.
                self._rewrite(parts, [*there, *(entries[name] for name in parts if name in entries)])
        return sorted(there, key=lambda entry: entry.changed)

    def remove(self, entry: Entry) -> bool:
        """Remove the file of *entry* if it is still as it was made, and directories that it leaves empty."""
        with _LOCK:
            path = self._inside(entry.name)
            if path is None or not self._is_ours(entry):
                return False
            path.unlink()
        for parent in path.parents:
            if parent == self.root:
                break
            try:
                parent.rmdir()
            except OSError:
                break  # Not empty: others are in it.
        return True

    def _inside(self, name: str) -> Path | None:
        """Where *name* lies, or None if that is not below the root, whatever the list or a link says."""
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\0" in name:
            return None
        path = self.root.joinpath(*parts)
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            return None
        return path

    def _is_ours(self, entry: Entry) -> bool:
        path = self._inside(entry.name)
        try:
            found = path.lstat() if path else None
        except (FileNotFoundError, NotADirectoryError):
            return False
        if found is None or not stat.S_ISREG(found.st_mode):
            return False
        return (found.st_size, found.st_mtime_ns) == (entry.size, entry.changed)

    def _has_part(self, name: str) -> bool:
        path = self._inside(name)
        return path is not None and path.with_name(f"{path.name}.part").exists()

    def _lines(self) -> Iterator[dict[str, Any]]:
        with _LOCK:
            try:
                lines = self.path.read_bytes().splitlines()
            except FileNotFoundError:
                return
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                continue  # A crash tore it.
            if isinstance(value, dict):
                yield value

    def _append(self, line: dict[str, Any]) -> None:
        with _LOCK:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            # The newline in front ends a line that a crash has torn.
            with self.path.open("ab", buffering=0) as file:
                file.write(b"\n" + json.dumps(line).encode() + b"\n")

    def _rewrite(self, parts: list[str], entries: list[Entry]) -> None:
        lines: list[dict[str, Any]] = [{"begun": name} for name in parts]
        lines += [{"file": entry.name, "size": entry.size, "changed": entry.changed} for entry in entries]
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
        os.replace(fresh, self.path)  # noqa: PTH105  says what it does
