"""What talks to a daemon from outside, under Trio: pushes a stream to it, asks it how things stand.

- `publish` pushes chunks over a WebSocket, as a browser does.
- `recorded_chunks` cuts a WebM or Matroska file into such chunks, paced as they were recorded.
- `Control` and `stream_status` read the HTTP API.
"""

from __future__ import annotations

from ingestd.client.api import ApiError, Control, DaemonUnreachable, UnknownStream, stream_status
from ingestd.client.publisher import Closed, ConnectionFailed, publish
from ingestd.client.recorded import Recorded, index, recorded_chunks

__all__ = [
    "ApiError",
    "Closed",
    "ConnectionFailed",
    "Control",
    "DaemonUnreachable",
    "Recorded",
    "UnknownStream",
    "index",
    "publish",
    "recorded_chunks",
    "stream_status",
]
