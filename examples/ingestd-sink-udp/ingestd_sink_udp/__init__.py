"""``type = "udp"``: MPEG-TS over UDP, an example of a sink by others."""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import field, frozen

from ingestd.config import Address
from ingestd.media.frames import Track
from ingestd.ranges import number_between
from ingestd.sinks.base import Output, Place, Sink
from ingestd.sinks.codecs import require_codecs

#: Seven TS packets: what fits an Ethernet frame.
PACKET = 7 * 188


@frozen(slots=True, kw_only=True)
class UdpSink(Sink):
    """A sender to *address*; *ttl* is how many routers a multicast packet passes, less one."""

    type: ClassVar[str] = "udp"
    policy: ClassVar[Literal["journal", "skip"]] = "skip"
    network: ClassVar[bool] = True
    video_codecs: ClassVar[frozenset[str]] = frozenset({"h264", "hevc"})
    audio_codecs: ClassVar[frozenset[str]] = frozenset({"aac", "mp3"})

    address: Address
    ttl: int = field(default=1, validator=number_between(1, 255))

    @property
    def claim(self) -> str:
        """Two senders to one address would disturb each other."""
        return f"udp {self.address}"

    def problems(self) -> list[tuple[str, str]]:
        """A port that nobody can listen on."""
        return [("address", "expected a port from 1 to 65535")] if self.address.port == 0 else []

    def output(self, place: Place, tracks: tuple[Track, ...]) -> Output:  # noqa: ARG002
        """MPEG-TS to the address. Raises `UnsupportedMedia` for codecs that it does not take."""
        require_codecs(self, tracks)
        url = f"udp://{self.address}?pkt_size={PACKET}&ttl={self.ttl}"
        args = ("-f", "mpegts", "-muxdelay", "0", "-muxpreload", "0", url)
        return Output(args=args, protocols=("udp",))
