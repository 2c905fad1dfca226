"""Messages for viewers: cut at each random access point, with the init segment that they need."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ingestd.live.batch import Batch, Configuration
from ingestd.live.hub import Hub
from ingestd.live.intake import Intake
from ingestd.live.ring import Message
from ingestd.live.segmenter import Segmenter, Unplayable
from ingestd.live.splice import Splicer
from ingestd.media.demux import SniffingDemuxer
from ingestd.media.frames import Frame, Header, Kind, Track
from ingestd.media.opus import SILENCE
from tests.live.tools import AUDIO, VIDEO, Source, hub_config
from tests.support.captures import capture

VP8 = 'video/webm;codecs="vp8,opus"'


def cut(hub: Hub) -> list[Message]:
    """All messages of what *hub* has, from its first random access point on."""
    segmenter = Segmenter("S", 0.0, hub)
    found: list[Message] = []
    seq = hub.marks().__next__().seq
    while (batch := hub.batch_at(seq)) is not None:
        found += segmenter.messages(batch)
        seq = batch.end
    return found


def published(name: str) -> Hub:
    """A hub with all of a capture, a publisher's message a batch."""
    hub, intake = Hub(hub_config()), Intake(Splicer("recorder"), 2**24)
    last = None
    found = capture(name)
    for chunk, data in zip(found.chunk_list, found.chunks(), strict=True):
        if chunk.recorder != last:
            last = chunk.recorder
            intake.begin()
        for piece in intake.feed(data):
            hub.publish(piece.configuration, tuple(piece.frames), tuple(piece.marks))
    return hub


def frames_in(messages: Sequence[Message]) -> list[Frame]:
    """What a demuxer makes of the init segment and the media."""
    assert messages[0].init is not None
    demuxer = SniffingDemuxer(max_frame=2**24)
    events = demuxer.feed(messages[0].init.segment)
    for message in messages:
        events += demuxer.feed(bytes(message.payload))
    return [event for event in [*events, *demuxer.close()] if isinstance(event, Frame)]


async def test_a_message_begins_at_each_random_access_point() -> None:
    """Also where one lies in the middle of a batch, and more than one; frames are counted through."""
    hub = Hub(hub_config())
    source = Source(hub)
    source.publish(key=True, frames=3)
    source.publish(frames=2)
    hub.publish(
        source.configuration,
        (Frame(1, 10**9, False, b"a"), Frame(1, 2 * 10**9, True, b"b"), Frame(1, 3 * 10**9, True, b"c")),
        tuple(
            type(next(hub.marks()))(seq, time, source.configuration)
            for seq, time in ((6, 2 * 10**9), (7, 3 * 10**9))
        ),
    )
    made = cut(hub)
    assert [(m.starts, m.first, m.frames, m.time) for m in made] == [
        (True, 0, 3, 0), (False, 3, 2, 99), (False, 5, 1, 1000), (True, 6, 1, 2000), (True, 7, 1, 3000),
    ]  # fmt: skip
    assert {m.init for m in made} == {made[0].init}
    for message in made:
        assert message.frame[message.head :] == bytes(message.payload)


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("cv-vp8-250.webm", [VP8]),
        ("cv-vp9-250.webm", ['video/webm;codecs="vp09.00.31.08,opus"']),
        ("cv-av1-250.webm", ['video/webm;codecs="av01.0.09M.08,opus"']),
        ("cv-h264webm-100.mkv", ['video/mp4;codecs="avc1.42C020,opus"']),
        ("gum-audio-250.webm", ['audio/webm;codecs="opus"']),
        # The size stands in H.264's configuration, and in none that VP8 has.
        ("gum-h264webm-resize.mkv", [f'video/mp4;codecs="avc1.42C0{level},opus"' for level in ("20", "1F")]),
        ("gum-vp8-resize.webm", [VP8]),
        ("cv-vp8-restart.webm", [VP8]),
        ("cv-mp4avc-restart.mp4", ['video/mp4;codecs="avc1.42C020,opus"']),
    ],
)
async def test_an_init_segment_comes_when_and_only_when_it_differs(name: str, media: list[str]) -> None:
    """The type names the very tracks that are in it; no frame is lost, and times never go back."""
    hub = published(name)
    made = cut(hub)
    inits = list(dict.fromkeys(message.init for message in made))
    assert [init.media for init in inits if init is not None] == media
    found: list[Frame] = []
    for init in inits:
        assert init is not None
        own = [message for message in made if message.init is init]
        assert own[0].starts
        found += frames_in(own)
        tracks = next(
            event.tracks
            for event in SniffingDemuxer(max_frame=2**24).feed(init.segment + bytes(own[0].payload))
            if isinstance(event, Header)
        )
        assert len(tracks) == init.media.count(",") + 1
    # Where sound was missing between two recorders there is silence.
    found = [frame for frame in found if frame.payload != SILENCE]
    # Sound from before the time 0 is its codec's business, and left out.
    assert len(found) == sum(message.frames for message in made if message.init is not None) == hub.next_seq
    keys = [message.time for message in made if message.starts]
    assert keys == sorted(keys)


async def test_what_no_browser_plays_is_named() -> None:
    hub = Hub(hub_config())
    tracks = (Track(number=1, kind=Kind.VIDEO, codec="mpeg2video", width=64, height=48), AUDIO)
    Source(hub, Configuration(tracks)).publish(key=True)
    with pytest.raises(Unplayable, match="mpeg2video"):
        cut(hub)


async def test_tracks_that_are_described_alike_need_no_other_init_segment() -> None:
    """A recorder that begins anew goes on in the same one."""
    hub = Hub(hub_config())
    first, second = Configuration((VIDEO, AUDIO)), Configuration((VIDEO, AUDIO))
    segmenter = Segmenter("S", 0.0, hub)
    Source(hub, first).publish(key=True)
    Source(hub, second).publish(key=True)
    batches = [hub.batch_at(0), hub.batch_at(1)]
    made = [message for batch in batches if isinstance(batch, Batch) for message in segmenter.messages(batch)]
    assert len(made) == 2
    assert made[0].init is made[1].init
