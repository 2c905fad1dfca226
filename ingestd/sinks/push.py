"""What the sinks that push FLV over RTMP or RTMPS have in common.

FFmpeg passes ``-tls_verify`` and ``-ca_file`` on from rtmps to tls. Tried with 5.1 (GnuTLS) and
9.0 (OpenSSL): a foreign CA, another host's certificate and an expired one are refused by both.
"""

from __future__ import annotations

import ssl
from typing import ClassVar, Literal, Self
from urllib.parse import SplitResult, urlsplit

import certifi
from attrs import evolve, field, frozen

from ingestd.config import FilePath, KeyFile, Seconds
from ingestd.credentials import SECRET, CredentialError, read_secret
from ingestd.errors import AttemptFailed
from ingestd.media.frames import Track
from ingestd.ranges import duration_between
from ingestd.sinks.base import Output, Place, Sink
from ingestd.sinks.codecs import require_codecs

#: Shorter secrets are masked only together with the slash before them, or they would mask half the line.
_MASKABLE = 6


@frozen(slots=True, kw_only=True)
class PushSink(Sink):
    """A connection to one remote ingest; subclasses say which through `target_url`."""

    policy: ClassVar[Literal["journal", "skip"]] = "skip"
    network: ClassVar[bool] = True

    key: str = field(default="", repr=False)
    key_file: KeyFile = ""
    per_stream: bool = False
    timeout: Seconds = field(default=10.0, validator=duration_between("1s", "5m"))
    ca_file: FilePath = ""

    @property
    def patience(self) -> float:
        """FFmpeg's own timeout strikes first, and knows the cause."""
        return self.timeout

    @property
    def target_url(self) -> str:
        """The URL that the key is appended to."""
        raise NotImplementedError

    @property
    def claim(self) -> str:
        """What only one sink of a pipeline can push to. Holds secrets: compare it, never show it."""
        return f"{self.target_url} {self.key} {self.key_file}"

    @property
    def is_unaimed(self) -> bool:
        """Whether it waits for a stream's own target."""
        return self.per_stream and not self.key

    def aimed(self, key: str, url: str | None) -> Self:
        """The same sink for a stream that has its own *key* and, where that may differ, *url*."""
        del url  # where it goes is the same for all
        return evolve(self, key=key, key_file="", per_stream=False)

    def problems(self) -> list[tuple[str, str]]:
        """Both or unusable keys, or one where each stream has its own."""
        if self.per_stream and (self.key or self.key_file):
            return [("per_stream", "expected no key and no key_file beside it: each stream has its own")]
        if self.key and self.key_file:
            return [("key", "expected only one of key and key_file, got both")]
        if self.key and SECRET.fullmatch(self.key) is None:
            return [("key", "expected up to 1024 characters of printable ASCII without spaces")]
        return []

    def output(self, place: Place, tracks: tuple[Track, ...]) -> Output:  # noqa: ARG002
        """FLV to the target. The key file is read anew for every attempt, so that it can be replaced.

        Raises `UnsupportedMedia` for other codecs than H.264 and AAC, `AttemptFailed` when the key
        file cannot be read, or the stream should have a key of its own, and has none (yet).
        """
        require_codecs(self, tracks)
        if self.is_unaimed:
            raise AttemptFailed(f'this stream has no target for the sink "{self.name}"; set one by the API')
        try:
            key = self.key or (read_secret(self.key_file) if self.key_file else "")
        except CredentialError as error:
            raise AttemptFailed(str(error)) from None
        url = self.target_url
        target = f"{url.rstrip('/')}/{key}" if key else url
        args = ["-f", "flv", "-flvflags", "no_duration_filesize", "-rw_timeout", f"{self.timeout * 1e6:.0f}"]
        protocols: tuple[str, ...] = ("rtmp", "tcp")
        if url.startswith("rtmps:"):
            args += ["-tls_verify", "1", "-ca_file", self.ca_file or trusted_authorities()]
            protocols = ("rtmps", "tls", "tcp")
        return Output(args=(*args, target), protocols=protocols, secrets=_secrets(urlsplit(url), key))


def trusted_authorities() -> str:
    """The file of certificate authorities: the system's (or ``$SSL_CERT_FILE``), else certifi's."""
    return ssl.get_default_verify_paths().cafile or certifi.where()


def url_problem(url: str) -> str:
    """What is wrong with an RTMP *url*, or nothing. Never repeats it, because it may hold a key."""
    expected = 'expected a URL like "rtmps://live.example.org/app"'
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"{expected}; this one cannot be parsed"
    if parts.scheme not in ("rtmp", "rtmps"):
        return f"{expected}; this one does not begin with rtmp:// or rtmps://"
    if SECRET.fullmatch(url) is None:
        return f"{expected}; this one holds spaces or characters that are not ASCII"
    if not parts.hostname or port == 0:
        return f"{expected}; this one has no host, or port 0"
    if not parts.path.strip("/"):
        return f"{expected}; this one names no application after the host"
    return ""


def masked_url(url: str) -> str:
    """*url* without what may be secret: user, password, and all after the application."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return url and f"{parts.scheme}://{host}/{parts.path.strip('/').partition('/')[0]}"


def _secrets(url: SplitResult, key: str) -> tuple[str, ...]:
    # A URL without a separate key holds it after the application.
    hidden = key or url.path.strip("/").partition("/")[2] + (f"?{url.query}" if url.query else "")
    whole = [secret for secret in (hidden, url.password or "") if len(secret) >= _MASKABLE]
    found = [*whole, f"/{hidden}" if hidden else "", url.netloc.rpartition("@")[0]]
    return tuple(dict.fromkeys(secret for secret in found if secret))
