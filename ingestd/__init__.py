"""Live ingest for browsers: MediaRecorder chunks over WebSocket become a recording, HLS and an RTMPS push."""

__version__ = "0.1.0"
