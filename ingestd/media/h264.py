"""H.264 bitstreams: NAL units, parameter sets and the avcC record (ITU-T H.264; ISO/IEC 14496-15).

A coded picture travels either as a byte stream with start codes (Annex B), or with each NAL unit
behind its length, the parameter sets apart in the avcC record.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from ingestd.media.frames import Payload

IDR, SPS, PPS = 5, 7, 8
_START = b"\0\0\1"
_LONG_START = b"\0\0\0\1"
_WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_AVCC_WITH_CHROMA = frozenset({100, 110, 122, 144})
_MAX_SIDE_MBS = 4096


@frozen(slots=True, kw_only=True)
class SpsInfo:
    """What a sequence parameter set says of the picture; *width* and *height* are after cropping."""

    profile: int
    constraints: int
    level: int
    chroma_format: int
    bit_depth_luma: int
    bit_depth_chroma: int
    width: int
    height: int


def nal_type(unit: Payload) -> int:
    """Return nal_unit_type (section 7.4.1) of a NAL unit that is not empty."""
    return unit[0] & 0x1F


def split_annexb(data: Payload) -> list[bytes]:
    """Return the NAL units of a byte stream (Annex B); none if there is no start code."""
    raw = bytes(data)
    units = []
    at = raw.find(_START)
    while at >= 0:
        begin = at + 3
        at = raw.find(_START, begin)
        # A NAL unit never ends in a zero byte (section 7.4.1): zeros belong to the next start code.
        unit = (raw[begin:at] if at >= 0 else raw[begin:]).rstrip(b"\0")
        if unit:
            units.append(unit)
    return units


def split_prefixed(data: Payload, length_size: int = 4) -> list[bytes]:
    """Return the NAL units behind lengths of *length_size* bytes; ValueError if one is cut short."""
    raw, pos, units = bytes(data), 0, []
    while pos < len(raw):
        begin = pos + length_size
        pos = begin + int.from_bytes(raw[pos:begin], "big")
        if begin > len(raw) or pos > len(raw):
            raise ValueError("a NAL unit is cut short")
        if pos > begin:
            units.append(raw[begin:pos])
    return units


def join_prefixed(units: Sequence[bytes]) -> bytes:
    """Join NAL units, each behind its length in 4 bytes."""
    parts: list[bytes] = []
    for unit in units:
        parts += (len(unit).to_bytes(4, "big"), unit)
    return b"".join(parts)


def join_annexb(units: Sequence[bytes]) -> bytes:
    """Join NAL units as a byte stream, each behind a start code of 4 bytes."""
    return b"".join(_LONG_START + unit for unit in units)


def build_avcc(sps: Sequence[bytes], pps: Sequence[bytes]) -> bytes:
    """Build the AVCDecoderConfigurationRecord (ISO/IEC 14496-15, section 5.3.3.1), lengths of 4 bytes.

    Raises ValueError if there is no parameter set of either kind, or the first SPS is malformed.
    """
    if not sps or not pps or len(sps) > 31 or len(pps) > 255:
        raise ValueError("avcC needs 1 to 31 SPS and 1 to 255 PPS")
    info = parse_sps(sps[0])
    parts = [bytes((1, info.profile, info.constraints, info.level, 0xFF, 0xE0 | len(sps)))]
    for unit in sps:
        parts += (len(unit).to_bytes(2, "big"), unit)
    parts.append(bytes((len(pps),)))
    for unit in pps:
        parts += (len(unit).to_bytes(2, "big"), unit)
    if info.profile in _AVCC_WITH_CHROMA:
        depths = (0xF8 | info.bit_depth_luma - 8, 0xF8 | info.bit_depth_chroma - 8)
        parts.append(bytes((0xFC | info.chroma_format, *depths, 0)))
    return b"".join(parts)


def parse_avcc(record: bytes) -> tuple[int, list[bytes], list[bytes]]:
    """Return ``(length size, SPS units, PPS units)`` of an avcC record; ValueError if it is malformed."""
    if len(record) < 7 or record[0] != 1:
        raise ValueError("not an avcC record of version 1")
    pos, sets = 5, []
    for mask in (0x1F, 0xFF):
        if pos >= len(record):
            raise ValueError("an avcC record is cut short")
        count, pos, units = record[pos] & mask, pos + 1, []
        for _ in range(count):
            begin = pos + 2
            pos = begin + int.from_bytes(record[pos:begin], "big")
            if begin > len(record) or pos > len(record):
                raise ValueError("an avcC record is cut short")
            units.append(record[begin:pos])
        sets.append(units)
    return (record[4] & 3) + 1, sets[0], sets[1]


def parse_sps(unit: bytes) -> SpsInfo:
    """Read a sequence parameter set (section 7.3.2.1.1); ValueError if it is malformed."""
    if len(unit) < 5 or nal_type(unit) != SPS:
        raise ValueError("not a sequence parameter set")
    profile, constraints, level = unit[1:4]
    # Emulation prevention (section 7.4.1): 0x03 after two zeros is no data.
    bits = _Bits(unit[4:].replace(b"\0\0\3", b"\0\0"))
    bits.ue()  # seq_parameter_set_id
    chroma, separate, luma_depth, chroma_depth = 1, 0, 8, 8
    if profile in _WITH_CHROMA:
        chroma = bits.ue()
        separate = bits.u(1) if chroma == 3 else 0
        luma_depth, chroma_depth = 8 + bits.ue(), 8 + bits.ue()
        bits.u(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.u(1):
            _skip_scaling_lists(bits, 12 if chroma == 3 else 8)
    bits.ue()  # log2_max_frame_num_minus4
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.u(1)
        bits.se()
        bits.se()
        for _ in range(min(bits.ue(), 256)):
            bits.se()
    bits.ue()  # max_num_ref_frames
    bits.u(1)
    width_mbs, height_units = bits.ue() + 1, bits.ue() + 1
    frame_only = bits.u(1)
    if not frame_only:
        bits.u(1)
    bits.u(1)
    left, right, top, bottom = (bits.ue() for _ in range(4)) if bits.u(1) else (0, 0, 0, 0)
    # Cropping counts in chroma samples, and in fields when there may be any (equations 7-19 to 7-22).
    planar = 0 if separate else chroma
    unit_x = 2 if planar in (1, 2) else 1
    unit_y = (2 if planar == 1 else 1) * (2 - frame_only)
    width = 16 * width_mbs - unit_x * (left + right)
    height = 16 * height_units * (2 - frame_only) - unit_y * (top + bottom)
    sane = chroma <= 3 and luma_depth <= 14 and chroma_depth <= 14
    if not sane or max(width_mbs, height_units) > _MAX_SIDE_MBS or width <= 0 or height <= 0:
        raise ValueError("a sequence parameter set with impossible values")
    return SpsInfo(
        profile=profile,
        constraints=constraints,
        level=level,
        chroma_format=chroma,
        bit_depth_luma=luma_depth,
        bit_depth_chroma=chroma_depth,
        width=width,
        height=height,
    )


def _skip_scaling_lists(bits: _Bits, count: int) -> None:
    """Pass over scaling lists (section 7.3.2.1.1.1)."""
    for index in range(count):
        if not bits.u(1):
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                following = (last + bits.se()) % 256
            last = following or last


class _Bits:
    """Read bits and Exp-Golomb codes (section 9.1) from raw payload bytes."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def u(self, count: int) -> int:
        if count > self._left:
            raise ValueError("a parameter set is cut short")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def ue(self) -> int:
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 31:
                raise ValueError("an Exp-Golomb code is too long")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)
