"""The element ids of WebM and Matroska (RFC 9559) and the names of their codecs.

FFmpeg's short names are used everywhere else; Matroska's codec ids (the CELLAR group's
"Matroska Media Container Codec Specifications") only at the edge, here.
"""

from __future__ import annotations

from ingestd.errors import UnsupportedMedia

SEGMENT, SEEK_HEAD, INFO, TRACKS = 0x18538067, 0x114D9B74, 0x1549A966, 0x1654AE6B
CLUSTER, CUES, TAGS, CHAPTERS, ATTACHMENTS = 0x1F43B675, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469
SEGMENT_CHILDREN = frozenset({SEEK_HEAD, INFO, TRACKS, CLUSTER, CUES, TAGS, CHAPTERS, ATTACHMENTS})

SEEK, SEEK_ID, SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
TIMESTAMP_SCALE, DURATION, MUXING_APP, WRITING_APP = 0x2AD7B1, 0x4489, 0x4D80, 0x5741
DATE_UTC = 0x4461
TIMESTAMP, SIMPLE_BLOCK, BLOCK_GROUP, ENCRYPTED_BLOCK = 0xE7, 0xA3, 0xA0, 0xAF
BLOCK, BLOCK_DURATION, REFERENCE_BLOCK = 0xA1, 0x9B, 0xFB
CUE_POINT, CUE_TIME, CUE_TRACK_POSITIONS, CUE_TRACK, CUE_CLUSTER_POSITION = 0xBB, 0xB3, 0xB7, 0xF7, 0xF1

TRACK_ENTRY, TRACK_NUMBER, TRACK_UID, TRACK_TYPE = 0xAE, 0xD7, 0x73C5, 0x83
FLAG_LACING, LANGUAGE, CODEC_ID, CODEC_PRIVATE = 0x9C, 0x22B59C, 0x86, 0x63A2
CODEC_DELAY, SEEK_PRE_ROLL, DEFAULT_DURATION = 0x56AA, 0x56BB, 0x23E383
VIDEO, PIXEL_WIDTH, PIXEL_HEIGHT, COLOUR = 0xE0, 0xB0, 0xBA, 0x55B0
AUDIO, SAMPLING_FREQUENCY, CHANNELS, BIT_DEPTH = 0xE1, 0xB5, 0x9F, 0x6264
CONTENT_ENCODINGS, CONTENT_ENCODING, CONTENT_ENCODING_SCOPE = 0x6D80, 0x6240, 0x5032
CONTENT_ENCODING_TYPE, CONTENT_COMPRESSION, CONTENT_COMP_ALGO, CONTENT_COMP_SETTINGS = (
    0x5033,
    0x5034,
    0x4254,
    0x4255,
)

WEBM_CODECS = frozenset({"vp8", "vp9", "av1", "opus", "vorbis"})
"""The codecs that the WebM container guidelines allow."""

_NAMES = {
    "V_VP8": "vp8",
    "V_VP9": "vp9",
    "V_AV1": "av1",
    "V_MPEG4/ISO/AVC": "h264",
    "V_MPEGH/ISO/HEVC": "hevc",
    "V_MPEG4/ISO/ASP": "mpeg4",
    "V_MPEG2": "mpeg2video",
    "V_MJPEG": "mjpeg",
    "V_FFV1": "ffv1",
    "A_OPUS": "opus",
    "A_VORBIS": "vorbis",
    "A_AAC": "aac",
    "A_MPEG/L3": "mp3",
    "A_MPEG/L2": "mp2",
    "A_FLAC": "flac",
    "A_ALAC": "alac",
    "A_AC3": "ac3",
    "A_EAC3": "eac3",
}
_IDS = {name: codec_id for codec_id, name in _NAMES.items()}
_PCM = {
    "A_PCM/INT/LIT": ("pcm_s", "le"),
    "A_PCM/INT/BIG": ("pcm_s", "be"),
    "A_PCM/FLOAT/IEEE": ("pcm_f", "le"),
}


def codec_name(codec_id: str, bit_depth: int | None) -> str:
    """FFmpeg's short name for a codec id; one that is not known here comes back in lower case.

    *bit_depth* (the track's BitDepth) completes the name of PCM: ``pcm_s16le``, ``pcm_f32le``,
    ``pcm_u8`` (8-bit PCM is unsigned in Matroska).
    """
    if codec_id in _PCM and bit_depth:
        prefix, suffix = _PCM[codec_id]
        return "pcm_u8" if (prefix, bit_depth) == ("pcm_s", 8) else f"{prefix}{bit_depth}{suffix}"
    # Old muxers put AAC's profile behind the id: A_AAC/MPEG4/LC.
    return "aac" if codec_id.startswith("A_AAC/") else _NAMES.get(codec_id, codec_id.lower())


def codec_id_of(codec: str) -> tuple[str, int | None]:
    """Matroska's codec id and the BitDepth to write for FFmpeg's short name *codec*.

    Raises `UnsupportedMedia` for a name that has no Matroska mapping here.
    """
    if codec in _IDS:
        return _IDS[codec], None
    if codec == "pcm_u8":
        return "A_PCM/INT/LIT", 8
    for codec_id, (prefix, suffix) in _PCM.items():
        depth = codec.removeprefix(prefix).removesuffix(suffix)
        if codec == f"{prefix}{depth}{suffix}" and depth.isdecimal():
            return codec_id, int(depth)
    if codec.startswith(("v_", "a_")):
        return codec.upper(), None
    raise UnsupportedMedia(f"codec {codec!r} cannot be written to WebM or Matroska")
