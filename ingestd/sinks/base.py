"""The contract of a sink: it declares; `ingestd.live` feeds, supervises, retries and counts.

A sink is one frozen attrs class: its fields are its keys in ``[[sinks]]``, its class attributes say
what it needs, and its methods turn a place on disk into FFmpeg output arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from attrs import frozen

from ingestd.media.frames import Track


@frozen(slots=True, kw_only=True)
class Place:
    """Where a sink of one session may write.

    *recordings* and *hls* are directories of this stream (not necessarily there yet); *stem* is a
    file-name stem that is unique to the session. *catalog* is the directory of the lists of this
    stream's recordings (`ingestd.live.catalog`); without it none are kept. *first* is
    the number of the first segment to write, for sinks that number them. *resumed* tells a writer
    that the playlist is there and is the session's, and that it must go on with that. *cuts* tells
    how often segments that had been listed were cut off it again: what is written in their place
    needs other names, because a segment that was served may be kept by caches.
    """

    stream: str
    recordings: Path
    hls: Path
    stem: str
    pipeline: str = ""
    catalog: Path | None = None
    resumed: bool = False
    first: int = 0
    cuts: int = 0


@frozen(slots=True, kw_only=True)
class Output:
    """The tail of an FFmpeg command: *args* end with the target; *protocols* is its whitelist.

    *secrets* are the substrings of *args* that may never be logged or shown.
    """

    args: tuple[str, ...]
    protocols: tuple[str, ...]
    secrets: tuple[str, ...] = ()


@frozen(slots=True)
class Playlist:
    """A media playlist at *path*; while media flows it changes at least every *pause* seconds.

    *keep* segments stay on disk after they have left it, or with None all of the session's.

    *checked* is for segments that are files of their own, TS or MP4, with every frame that FFmpeg was
    fed from one keyframe to another: then one that is missing, or smaller than its frames, fails the
    attempt and is written anew. FFmpeg leaves it to the daemon to end such a playlist.
    """

    path: Path
    pause: float
    keep: int | None
    checked: bool = False


@frozen(slots=True, kw_only=True)
class Sink:
    """Base of all sinks. *name* is unique in its pipeline; the loader fills in the type when it is empty."""

    type: ClassVar[str]
    #: `journal` never loses a frame and may fall behind; `skip` stays live and drops to the next keyframe.
    policy: ClassVar[Literal["journal", "skip"]] = "journal"
    #: A network target is retried for ever (`retry_failed_every`); a local one that failed stays failed.
    network: ClassVar[bool] = False
    #: Codecs that the sink's container takes as they are (FFmpeg's short names).
    video_codecs: ClassVar[frozenset[str]] = frozenset({"h264"})
    audio_codecs: ClassVar[frozenset[str]] = frozenset({"aac"})

    name: str = ""

    @property
    def patience(self) -> float:
        """Seconds that FFmpeg may take to reach the target before it puts anything out."""
        return 0.0

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong with the options themselves: pairs of (key, what was expected and the fix)."""
        return []

    def output(self, place: Place, tracks: tuple[Track, ...]) -> Output | None:
        """FFmpeg's output arguments, or None for a sink that the daemon writes itself.

        Raises `UnsupportedMedia` when these tracks cannot go to this sink.
        """
        raise NotImplementedError

    def playlist(self, place: Place) -> Playlist | None:  # noqa: ARG002
        """The media playlist that tells how far this sink has got, for sinks that write one.

        The supervisor takes a playlist that stands still for a failure, and resumes a writer where
        its playlist ends.
        """
        return None
