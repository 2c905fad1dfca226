"""What FFmpeg prints: its progress, and why it died. No I/O: text in."""

from __future__ import annotations

import math
import re
from collections import deque

from attrs import define, field, frozen

MASK = "***"


def masked(args: list[str], secrets: tuple[str, ...]) -> list[str]:
    """*args* as they may be shown: every one of *secrets* is replaced."""
    return [mask(arg, secrets) for arg in args]


def mask(text: str, secrets: tuple[str, ...]) -> str:
    """*text* with every one of *secrets* replaced."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    return text


@frozen(slots=True)
class Progress:
    """One report of ``-progress``. It runs ahead of the disk or behind it: for people and watchdogs only.

    *out_time* in seconds, *fps* and *speed* as FFmpeg averages them since its start.
    """

    out_time: float | None = None
    frame: int = 0
    fps: float = 0.0
    speed: float = 0.0
    dropped: int = 0
    duplicated: int = 0
    size: int = 0

    def beyond(self, other: Progress) -> bool:
        """True if output has gone on since *other*: some muxers tell no size, -copyts starts time late."""
        return (
            (self.out_time or 0.0) > (other.out_time or 0.0)
            or self.frame > other.frame
            or self.size > other.size
        )


@define
class ProgressParser:
    """``-progress`` lines in, a `Progress` at each ``progress=`` line out."""

    _rest: bytes = b""
    _values: dict[str, str] = field(factory=dict)

    def feed(self, data: bytes) -> list[Progress]:
        reports = []
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-4096:]
        for line in lines:
            key, _, value = line.decode("ascii", "replace").partition("=")
            self._values[key.strip()] = value.strip()
            if key == "progress":
                reports.append(self._report())
                self._values.clear()
        return reports

    def _report(self) -> Progress:
        microseconds = self._number("out_time_us")
        return Progress(
            out_time=None if microseconds is None else microseconds / 1e6,
            frame=int(self._number("frame") or 0),
            fps=self._number("fps") or 0.0,
            speed=self._number("speed") or 0.0,
            dropped=int(self._number("drop_frames") or 0),
            duplicated=int(self._number("dup_frames") or 0),
            size=int(self._number("total_size") or 0),
        )

    def _number(self, key: str) -> float | None:
        try:
            value = float(self._values.get(key, "").removesuffix("x"))
        except ValueError:
            return None
        return value if math.isfinite(value) else None


#: What FFmpeg says, and what it means to the operator. The first match in the order of this list wins.
_CAUSES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), cause)
    for pattern, cause in (
        (r"no space left on device", "the disk is full"),
        (r"permission denied", "permission denied"),
        (r"certificate.*expired|expired.*certificate", "TLS: the certificate has expired"),
        (
            r"hostname mismatch|owner.*does not match|certificate.*hostname",
            "TLS: the certificate is for another host",
        ),
        (
            r"unable to get local issuer|self.signed|unknown ca|certificate.*not trusted",
            "TLS: the certificate is not from a trusted authority",
        ),
        (
            # All that GnuTLS says of a foreign authority and of an expired one, and OpenSSL of any fault.
            r"certificate verif|peer certificate failed",
            "TLS: the certificate cannot be verified: it is not from a trusted authority, has expired, "
            "or is for another host",
        ),
        # Before what GnuTLS says of every failure to send.
        (r"timed out|error number -110", "the target does not answer in time"),
        (r"error in the (pull|push) function|tls.*(handshake|error)|ssl.*error", "TLS: the handshake failed"),
        (r"connection refused|error number -111", "connection refused: nothing listens there"),
        (
            r"failed to resolve|name or service not known|could not resolve",
            "the host name cannot be resolved",
        ),
        (r"no route to host|network is unreachable", "the network is unreachable"),
        # Before the reset that it ends with: whoever listens there does not speak RTMP.
        (r"handshake failed|cannot read rtmp handshake", "the RTMP handshake failed"),
        (
            r"connection reset|broken pipe|end of file.*rtmp|error number -104",
            "the target closed the connection",
        ),
        (r"server error: (.+)", "the server refused the stream"),
        (
            r"ebml header parsing failed|invalid data found when processing input",
            "FFmpeg cannot read its input",
        ),
        (r"unknown encoder|encoder .* not found", "this FFmpeg lacks the encoder"),
        (r"protocol not found|protocol .* not on whitelist", "this FFmpeg lacks the protocol"),
        (
            r"codec .* not compatible with|could not (find tag|write header)|incorrect codec parameters"
            r"|not supported in",
            "the container cannot take this codec",
        ),
    )
)  # fmt: skip


#: The component with its address in memory, and the level: nothing that helps who reads the cause.
_PREFIX = re.compile(r"^(\[[^\]]+ @ 0x[0-9a-f]+\] )*(\[[a-z]+\] )?")


def _said(line: str) -> str:
    return _PREFIX.sub("", line)


_LONGEST_LINE = 4096
_SHOWN = 500


@define
class StderrParser:
    """FFmpeg's stderr (``-loglevel level+…``) in, its cause of death out. Bounded: the last 20 lines."""

    secrets: tuple[str, ...] = ()
    lines: deque[str] = field(init=False, factory=lambda: deque(maxlen=20))
    warnings: int = 0
    _rest: bytes = b""

    def feed(self, data: bytes) -> list[str]:
        """Take *data*; returns the lines that it completed, masked."""
        *raw, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            # A secret is cut in two only where the line goes on, and that end stays.
            self._rest = self._masked(self._rest).encode()[-_LONGEST_LINE:]
        lines = [line for line in map(self._masked, raw) if line]
        lines = [line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…" for line in lines]
        self.lines.extend(lines)
        self.warnings += len(lines)
        return lines

    def _masked(self, line: bytes) -> str:
        return mask(line.decode("utf-8", "replace").strip(), self.secrets)

    def cause(self) -> str | None:
        """The named cause with FFmpeg's own words, its last error line, or None if it said nothing."""
        # A dying process may not come to the end of its last line.
        lines = [line for line in (*self.lines, self._masked(self._rest)[:_SHOWN]) if line]
        for pattern, cause in _CAUSES:
            for line in lines:
                if pattern.search(line):
                    return f"{cause} ({_said(line)})"
        errors = [line for line in lines if "[error]" in line or "[fatal]" in line]
        last = next(reversed(errors or lines), None)
        return None if last is None else _said(last)
