"""A WebSocket server's frames (RFC 6455, section 5.2): never masked, so one encoding serves everybody."""

from __future__ import annotations

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

_FIN = 0x80
_LONGEST_CONTROL = 125


def frame_head(opcode: int, size: int) -> bytes:
    """What goes before a payload of *size* bytes, in one frame."""
    if size < 126:
        return bytes((_FIN | opcode, size))
    long = size > 0xFFFF
    return bytes((_FIN | opcode, 127 if long else 126)) + size.to_bytes(8 if long else 2)


def text_frame(text: str) -> bytes:
    """A text message in one frame."""
    payload = text.encode()
    return frame_head(TEXT, len(payload)) + payload


def control_frame(opcode: int, payload: bytes = b"") -> bytes:
    """A ping or pong; a payload is cut to the 125 octets that fit."""
    payload = payload[:_LONGEST_CONTROL]
    return frame_head(opcode, len(payload)) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame (section 5.5.1); the reason is cut to the 123 octets that fit."""
    text = reason.encode()[: _LONGEST_CONTROL - 2].decode(errors="ignore").encode()
    return frame_head(CLOSE, 2 + len(text)) + code.to_bytes(2) + text
