"""What is removed beside a playlist, and what is not."""

from __future__ import annotations

from pathlib import Path

from ingestd.live.sweep import sweep
from ingestd.media.playlist import MediaPlaylist, Segment

NAMES = ("old-000001.ts", "old-init.mp4", "new-000003.ts", "new-000007.ts", "new-000010.ts", "new-init.mp4",
         "index.m3u8", "notes.txt", "new-000011.ts.tmp")  # fmt: skip


def listed(*numbers: int, stem: str = "new") -> MediaPlaylist:
    return MediaPlaylist(tuple(Segment(n, 2.0, f"{stem}-{n:06}.ts") for n in numbers))


def fill(directory: Path) -> None:
    for name in NAMES:
        (directory / name).write_bytes(b"")


def test_older_sessions_and_forgotten_segments_go(tmp_path: Path) -> None:
    """Beyond `keep` behind the window, and of other sessions: removed; all else stays."""
    fill(tmp_path)
    assert sorted(sweep(tmp_path, "new", listed(9, 10), 3)) == [
        "new-000003.ts",
        "old-000001.ts",
        "old-init.mp4",
    ]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == set(NAMES) - {"new-000003.ts", "old-000001.ts", "old-init.mp4"}


def test_an_event_playlist_keeps_all_of_its_session(tmp_path: Path) -> None:
    """With keep None only other sessions' files are removed."""
    fill(tmp_path)
    assert sorted(sweep(tmp_path, "new", listed(10), None)) == ["old-000001.ts", "old-init.mp4"]


def test_nothing_goes_while_viewers_see_the_older_session(tmp_path: Path) -> None:
    """Until the playlist lists the new session's segments, the older one stays watchable."""
    fill(tmp_path)
    assert sweep(tmp_path, "new", listed(1, stem="old"), 3) == []
    assert sweep(tmp_path, "new", MediaPlaylist(), 3) == []
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)
