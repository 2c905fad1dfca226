"""What talks to a daemon from outside, under Trio: pushes a stream to it, asks it how things stand.

- `Publisher` pushes a source over connections that may break: what is not acknowledged is sent again.
- `publish_plain` pushes chunks over one connection, as a simple page does.
- `recorded_chunks` cuts a WebM or Matroska file into such chunks, paced as they were recorded.
- `Control` speaks the HTTP API: makes, shows and steers streams; `stream_status` shows one.
"""

from __future__ import annotations

from ingestd.client.answers import (
    AnswerLost,
    ApiError,
    DaemonUnreachable,
    NotAllowed,
    Problem,
    UnknownSink,
    UnknownStream,
)
from ingestd.client.api import Control, stream_status
from ingestd.client.connection import ConnectionFailed
from ingestd.client.messages import Drain, End, Hello, Pressure, SinkState, SourceWarning, StreamState
from ingestd.client.outbox import Buffer
from ingestd.client.plain import Closed, publish_plain
from ingestd.client.publisher import Dropped, Event, Lost, NewRecorder, Published, Publisher
from ingestd.client.recorded import Recorded, index, recorded_chunks

__all__ = [
    "AnswerLost",
    "ApiError",
    "Buffer",
    "Closed",
    "ConnectionFailed",
    "Control",
    "DaemonUnreachable",
    "Drain",
    "Dropped",
    "End",
    "Event",
    "Hello",
    "Lost",
    "NewRecorder",
    "NotAllowed",
    "Pressure",
    "Problem",
    "Published",
    "Publisher",
    "Recorded",
    "SinkState",
    "SourceWarning",
    "StreamState",
    "UnknownSink",
    "UnknownStream",
    "index",
    "publish_plain",
    "recorded_chunks",
    "stream_status",
]
