"""What a publisher's bytes say about frames and messages (RFC 6455 §5.2), without I/O.

trio-websocket hands out whole messages only: it cannot tell a message that never ends from silence,
and it refuses one that is too long only after taking all of it. The boundaries seen here can.
"""

from __future__ import annotations

from ingestd.live.publication import Closing

MAX_FRAMES = 65_536
"""Frames in one message; more would cost more memory in bookkeeping than the message limit allows."""

TEXT, BINARY = 0x1, 0x2
_CLOSE = 0x8

_NO_TEXT = Closing(1003, "binary messages only: send the recorder's data as ArrayBuffer or Blob")


class FrameWatch:
    """Follows frame headers through a client's byte stream; payloads are skipped, never looked at.

    *unfinished_since* is the time at which the frame or fragmented message that is not complete yet
    began (None between messages), *message_bytes* the payload that it brought so far; *messages*
    counts complete binary ones. *violation* is set by the first header that announces what is not
    taken: a message over *max_message*, or text over *max_text* (1009), or a kind of message (by its
    opcode) that is in *refused*: text (1003), unless *max_text* allows it. All other rules of the RFC
    are left to wsproto.
    """

    def __init__(self, max_message: int, max_text: int = 0) -> None:
        self.max_message = max_message
        self.max_text = max_text
        self.refused: dict[int, Closing] = {} if max_text else {TEXT: _NO_TEXT}
        self.unfinished_since: float | None = None
        self.message_bytes = 0
        self.messages = 0
        self.close_seen = False
        self.violation: Closing | None = None
        self._header = bytearray()
        self._payload_left = 0
        self._open = False  # a data message has begun and its last frame has not come
        self._text = False
        self._control = False
        self._fin = False
        self._frames = 0

    def feed(self, data: bytes | bytearray, now: float) -> int:
        """Take *data*, received at *now*; return how many of its bytes come before the violation."""
        position, clean = 0, 0 if self.violation else len(data)
        while position < len(data) and not self.close_seen:
            if self.unfinished_since is None:
                self.unfinished_since = now
            if self._payload_left:
                step = min(self._payload_left, len(data) - position)
                self._payload_left -= step
                position += step
                if not self._control:
                    self.message_bytes += step
            else:
                begin = position
                step = _header_size(self._header) - len(self._header)
                self._header += data[position : position + step]
                position += step
                if len(self._header) < _header_size(self._header):
                    continue
                had = self.violation
                self._begin_frame()
                if self.violation is not had:
                    clean = begin
            if not self._payload_left:
                self._end_frame()
        return clean

    def _begin_frame(self) -> None:
        first, length = self._header[0], self._header[1] & 0x7F
        if length >= 126:
            length = int.from_bytes(self._header[2 : 4 if length == 126 else 10])
        self._payload_left = length
        self._control = bool(first & 0x08)
        if self._control:
            return
        self._fin = bool(first & 0x80)
        if not self._open:
            opcode = first & 0x0F
            self._open, self._frames, self._text = True, 0, opcode == TEXT
            if opcode in self.refused:
                self._violate(self.refused[opcode])
        self._frames += 1
        most = self.max_text if self._text else self.max_message
        if self.message_bytes + length > most:
            self._violate(Closing(1009, f"{'text ' * self._text}message longer than {most} bytes"))
        elif self._frames > MAX_FRAMES:
            self._violate(Closing(1009, f"message of more than {MAX_FRAMES} frames"))

    def _end_frame(self) -> None:
        if self._control:
            self.close_seen = self._header[0] & 0x0F == _CLOSE
        elif self._fin:
            self._open, self.message_bytes = False, 0
            self.messages += not self._text
        self._header.clear()
        if not self._open:
            self.unfinished_since = None

    def _violate(self, closing: Closing) -> None:
        if self.violation is None:
            self.violation = closing


def _header_size(header: bytearray) -> int:
    """Octets of the frame header of which *header* is the beginning, as far as it tells (2–14)."""
    if len(header) < 2:
        return 2
    extended = {126: 2, 127: 8}.get(header[1] & 0x7F, 0)
    return 2 + extended + (4 if header[1] & 0x80 else 0)
