"""A playlist is cut back to what is sound, and gone on with, by the same daemon or a later one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from attrs import define, evolve, field

from ingestd.errors import AttemptFailed
from ingestd.live.batch import Batch, Configuration, Mark
from ingestd.live.fed import Fed
from ingestd.live.hub import Hub
from ingestd.live.notes import Notes
from ingestd.live.playlist import PlaylistFollower
from ingestd.media.frames import NS_PER_MS, NS_PER_S, Frame
from ingestd.media.mp4_boxes import encode
from ingestd.media.playlist import cut_back, parse_media_playlist
from tests.live.tools import BOTH, hub_config

ONLY = Configuration(BOTH.tracks[:1])
STEP = 40  # ms between two frames


@define
class Writing:
    """What FFmpeg would write of a program that has groups of pictures of different lengths."""

    folder: Path
    rng: random.Random
    window: int = 0
    frames: list[Frame] = field(factory=list)
    starts: list[int] = field(factory=list)
    text: str = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n"
    cuts: int = 0

    def __attrs_post_init__(self) -> None:
        for _ in range(12):
            self.starts.append(len(self.frames))
            for number in range(self.rng.randrange(5, 30)):
                at = len(self.frames) * STEP * NS_PER_MS
                self.frames.append(
                    Frame(1, at, number == 0, self.rng.randbytes(self.rng.randrange(400, 900)))
                )

    @property
    def path(self) -> Path:
        return self.folder / "index.m3u8"

    @property
    def follower(self) -> PlaylistFollower:
        return PlaylistFollower(self.path, "s1", 5.0, Notes(self.folder / "notes.json"))

    def time(self, group: int) -> int:
        """When a group begins, in ns."""
        return self.starts[group] * STEP * NS_PER_MS

    def fed(self, first: int, last: int) -> Fed:
        """Groups *first* to *last*, and one picture more, fed to one attempt."""
        begin, end = self.starts[first], self.starts[last] + 1
        batch = Batch(ONLY, tuple(self.frames[begin:end]), 1000 + begin, 0)
        fed = Fed.beginning(batch)
        fed.add(batch)
        return fed

    def segment(self, number: int, first: int, last: int | None = None, *, damage: str = "") -> None:
        """List groups *first* to *last* (one, unless told) as one more segment, whole or with *damage*."""
        begin, end = self.starts[first], self.starts[(first if last is None else last) + 1]
        data = encode(b"moof", bytes(99)) + encode(
            b"mdat", *(bytes(f.payload) for f in self.frames[begin:end])
        )
        name = f"s1-{self.cuts}-{number:06}.m4s" if self.cuts else f"s1-{number:06}.m4s"
        if damage == "short":
            data = data[: len(data) // 4096 * 4096]
        if damage != "missing":
            (self.folder / name).write_bytes(b"" if damage == "empty" else data)
        self.text += f"#EXTINF:{(end - begin) * STEP / 1000:.6f},\n{name}\n"
        if self.window and len(parse_media_playlist(self.text).segments) > self.window:
            self.remove_first()
        self.show()

    def remove_first(self) -> None:
        first = parse_media_playlist(self.text).segments[0].sequence
        head, _, rest = self.text.partition("#EXTINF")
        _, _, rest = rest.partition(".m4s\n")
        number = f"MEDIA-SEQUENCE:{first}\n"
        self.text = head.replace(number, f"MEDIA-SEQUENCE:{first + 1}\n") + rest

    def show(self, text: str | None = None) -> None:
        fresh = self.path.with_suffix(".tmp")
        fresh.write_text(self.text if text is None else text)
        fresh.replace(self.path)

    def hub(self, groups: int) -> Hub:
        """With the first *groups*, as a later daemon has them."""
        hub = Hub(hub_config())
        frames = tuple(self.frames[: self.starts[groups]])
        marks = [Mark(at, self.frames[at].timestamp, ONLY) for at in self.starts[:groups]]
        hub.publish(ONLY, frames, tuple(marks))
        return hub


@pytest.fixture
def writing(tmp_path: Path) -> Writing:
    return Writing(tmp_path, random.Random(7))


def identity(path: Path) -> tuple[int, int, int]:
    """Which file it is, and as it was last written: to read it is no change."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def listed(folder: Path) -> list[str]:
    return [segment.uri for segment in parse_media_playlist((folder / "index.m3u8").read_text()).segments]


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("s1-*"))


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_is_damaged(tmp_path: Path, seed: int) -> None:
    """What comes before the first damaged segment stays and counts, to the frame; all else is gone."""
    rng = random.Random(seed)
    writing = Writing(tmp_path, rng, window=rng.choice([0, 3]))
    follower = writing.follower
    await follower.begin(0, writing.fed(0, 11))
    groups, number, bad = 0, 0, None
    while groups < 9:
        last = min(groups + rng.randrange(2), 9)
        damage = rng.choice(["", "", "", "short", "empty", "missing"]) if bad is None else ""
        writing.segment(number, groups, last, damage=damage)
        if damage:
            bad = (number, groups)
        if rng.random() < 0.7 or damage:  # else FFmpeg is faster than the looks
            await follower.refresh()
        groups, number = last + 1, number + 1
    await follower.refresh()
    good, end = bad or (number, groups)
    assert (follower.broken is not None) == (bad is not None)
    assert (follower.next_number, follower.end()) == (good, writing.time(end))
    await follower.settle()
    assert follower.broken is None
    assert listed(tmp_path) == [u for u in listed(tmp_path) if int(u[3:9]) < good]
    assert set(listed(tmp_path)) <= set(there(tmp_path))
    assert all(int(name[3:9]) < good for name in there(tmp_path))
    assert follower.cuts == (bad is not None)
    # A window that has moved on cannot go back to the numbers that have left it.
    following = parse_media_playlist((tmp_path / "index.m3u8").read_text()).following
    assert follower.next_number == following >= good
    assert follower.reached is not None
    assert (follower.end(), follower.reached.seq) == (writing.time(end), 1000 + writing.starts[end])
    later = writing.follower
    await later.resume(writing.hub(11), checked=True)
    assert (later.next_number, later.end(), later.cuts) == (
        follower.next_number,
        follower.end(),
        follower.cuts,
    )


async def test_the_cause_names_the_segment(writing: Writing) -> None:
    """An operator reads which one, and how much of it there is."""
    follower = writing.follower
    await follower.begin(0, writing.fed(0, 3))
    writing.segment(0, 0)
    writing.segment(1, 1, damage="empty")
    await follower.refresh()
    assert follower.broken is not None
    assert follower.broken.startswith("the disk cut short segment s1-000001.m4s: 0 bytes, for ")


async def test_an_emptied_playlist_is_written_again(writing: Writing, tmp_path: Path) -> None:
    """What was known of it comes back, and what it may have listed meanwhile gets another name."""
    follower = writing.follower
    await follower.begin(0, writing.fed(0, 5))
    for number in range(3):
        writing.segment(number, number)
    await follower.refresh()
    known = writing.text
    for torn in ("", known[: len(known) // 2], known.rpartition("#EXTINF")[0]):
        writing.show(torn)
        await follower.refresh()
        assert follower.broken is not None
        assert (follower.next_number, follower.end()) == (3, writing.time(3))
        cuts = follower.cuts
        await follower.settle()
        assert (tmp_path / "index.m3u8").read_text() == known
        assert follower.cuts == cuts + 1
        assert there(tmp_path) == listed(tmp_path)


async def test_the_init_segment_is_checked_too(writing: Writing) -> None:
    """Without it nothing can be played."""
    follower = writing.follower
    await follower.begin(0, writing.fed(0, 3))
    writing.text += '#EXT-X-MAP:URI="s1-init.mp4"\n'
    (writing.folder / "s1-init.mp4").write_bytes(b"")
    writing.segment(0, 0)
    await follower.refresh()
    assert follower.broken is not None
    assert "s1-init.mp4" in follower.broken
    await follower.settle()
    assert listed(writing.folder) == []
    assert follower.next_number == 0


async def test_a_segment_that_ends_in_the_middle_of_a_group_does_not_count(writing: Writing) -> None:
    """FFmpeg lists what it has when it is told to end: only its regular end makes that the last segment."""
    follower = writing.follower
    fed = writing.fed(0, 3)
    await follower.begin(0, fed)
    writing.segment(0, 0)
    writing.text += "#EXTINF:0.080000,\ns1-000001.m4s\n"
    (writing.folder / "s1-000001.m4s").write_bytes(encode(b"mdat", bytes(9000)))
    writing.show()
    await follower.refresh()
    assert (follower.next_number, follower.end()) == (1, writing.time(1))
    await follower.settle()
    assert listed(writing.folder) == ["s1-000000.m4s"]


async def test_what_ffmpeg_ended_by_itself_is_doubted(writing: Writing) -> None:
    """It may end at a keyframe by chance, and lack the sound before that."""
    follower = writing.follower
    await follower.begin(0, writing.fed(0, 3))
    writing.segment(0, 0)
    writing.segment(1, 1)
    await follower.refresh()
    assert follower.next_number == 2
    await follower.doubt()
    await follower.settle()
    assert (follower.next_number, follower.end()) == (1, writing.time(1))
    assert listed(writing.folder) == ["s1-000000.m4s"]


async def test_the_regular_end(writing: Writing) -> None:
    """The last segment counts wherever it ends, if it is whole and was listed after the input's end."""
    follower = writing.follower
    fed = writing.fed(0, 2)
    await follower.begin(0, fed)
    writing.segment(0, 0)
    await follower.all_fed()
    writing.segment(1, 1)
    await follower.refresh()
    assert follower.next_number == 1  # It may be the last one, or not.
    one = writing.frames[writing.starts[2]]
    (writing.folder / "s1-000002.m4s").write_bytes(encode(b"mdat", bytes(one.payload)))
    writing.text += "#EXTINF:0.000000,\ns1-000002.m4s\n"
    writing.show()
    await follower.finish()
    assert follower.reached == fed.end()
    assert follower.next_number == 3
    await follower.close()
    assert (writing.folder / "index.m3u8").read_text() == writing.text + "#EXT-X-ENDLIST\n"
    # A session that goes on after all goes on there.
    await follower.settle()
    assert (writing.folder / "index.m3u8").read_text() == writing.text
    assert follower.cuts == 0


async def test_an_end_that_is_not_listed(writing: Writing) -> None:
    """FFmpeg says that all is well, but the playlist is as it was before."""
    follower = writing.follower
    await follower.begin(0, writing.fed(0, 2))
    writing.segment(0, 0)
    writing.segment(1, 1)
    await follower.all_fed()
    with pytest.raises(AttemptFailed, match="not written to its end"):
        await follower.finish()


async def test_an_older_sessions_playlist_is_left_alone(writing: Writing, tmp_path: Path) -> None:
    """Until this session lists something, viewers see the older one."""
    writing.show("#EXTM3U\n#EXTINF:2,\ns0-000000.ts\n#EXT-X-ENDLIST\n")
    before = identity(tmp_path / "index.m3u8")
    follower = writing.follower
    await follower.resume(writing.hub(2), checked=True)
    await follower.settle()
    await follower.close()
    assert follower.end() is None
    assert identity(tmp_path / "index.m3u8") == before


@pytest.mark.parametrize("unfinished", [False, True])
@pytest.mark.parametrize("orphan", [0, 1, 2, 4])
async def test_what_was_listed_after_the_note(
    writing: Writing, tmp_path: Path, orphan: int, *, unfinished: bool
) -> None:
    """It stays as it is listed, but for the last one, unless another had been begun: it may end anywhere."""
    follower = writing.follower
    await follower.begin(0, writing.fed(0, 9))
    for number in range(3):
        writing.segment(number, number)
    await follower.refresh()
    for number in range(3, 3 + orphan):
        writing.segment(number, number)
    if unfinished:
        (tmp_path / f"s1-{3 + orphan:06}.m4s.tmp").touch()
    else:
        writing.show(f"{writing.text}#EXT-X-ENDLIST\n")
    later = writing.follower
    await later.resume(writing.hub(10), checked=True)
    sound = 3 + orphan - (orphan > 0 and not unfinished)
    cut_off = sound < 3 + orphan
    assert (later.next_number, later.end(), later.cuts) == (sound, writing.time(sound), int(cut_off))
    assert (later.reached.seq if later.reached else None) == (writing.starts[sound] if sound > 3 else None)
    await later.settle()
    assert listed(tmp_path) == [f"s1-{number:06}.m4s" for number in range(sound)]
    assert set(listed(tmp_path)) <= set(there(tmp_path))


@pytest.mark.parametrize("damage", ["short", "empty", "missing"])
async def test_what_was_listed_after_the_note_and_is_damaged(writing: Writing, damage: str) -> None:
    """It is written anew, with all that follows."""
    follower = writing.follower
    await follower.begin(0, writing.fed(0, 9))
    writing.segment(0, 0)
    await follower.refresh()
    writing.segment(1, 1)
    writing.segment(2, 2, damage=damage)
    writing.segment(3, 3)
    writing.segment(4, 4)
    later = writing.follower
    await later.resume(writing.hub(10), checked=True)
    assert (later.next_number, later.end(), later.cuts) == (2, writing.time(2), 1)
    assert listed(writing.folder) == ["s1-000000.m4s", "s1-000001.m4s"]


@pytest.mark.parametrize(("checked", "journaled"), [(False, 10), (True, 3), (True, 2)])
async def test_what_was_listed_after_the_note_and_cannot_be_known(
    writing: Writing, journaled: int, *, checked: bool
) -> None:
    """Where no keyframe of the program says that a segment ends there, it is written anew."""
    follower = writing.follower
    await follower.begin(0, writing.fed(0, 9))
    for number in range(2):
        writing.segment(number, number)
    await follower.refresh()
    for number in range(2, 5):
        writing.segment(number, number)
    later = writing.follower
    await later.resume(writing.hub(journaled), checked=checked)
    assert (later.next_number, later.end(), later.reached) == (2, writing.time(2), None)


async def test_a_note_that_is_older_than_the_window_is_of_no_use(writing: Writing) -> None:
    """The numbers that have left the window are gone; where segments do not say, the newest is next."""
    writing = evolve(writing, window=3)
    follower = writing.follower
    await follower.begin(0, writing.fed(0, 11))
    writing.segment(0, 0)
    await follower.refresh()
    for number in range(1, 8):
        writing.segment(number, number)
    later = writing.follower
    await later.resume(writing.hub(9), checked=True)
    assert later.next_number == 7
    assert later.end() == writing.time(8)
    assert listed(writing.folder) == ["s1-000005.m4s", "s1-000006.m4s"]


async def test_a_playlist_that_cannot_be_written(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is still something to settle; the damaged files make room meanwhile."""
    follower = writing.follower
    await follower.begin(0, writing.fed(0, 5))
    writing.segment(0, 0)
    writing.segment(1, 1, damage="short")
    await follower.refresh()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", full)
        with pytest.raises(AttemptFailed, match="cannot be written: No space left"):
            await follower.settle()
    assert there(writing.folder) == ["s1-000000.m4s"]
    assert follower.broken is not None
    assert not await follower.lacks_room()
    await follower.settle()
    assert (follower.broken, follower.cuts) == (None, 1)
    assert listed(writing.folder) == ["s1-000000.m4s"]
    assert cut_back(writing.text, 0) == writing.path.read_text()
    assert follower.end() == writing.time(1) != NS_PER_S
