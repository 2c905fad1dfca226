"""The exceptions of ingestd: a small tree, each class named for what the caller does next."""

from __future__ import annotations

from typing import ClassVar


class IngestdError(Exception):
    """Base of all errors that ingestd raises on purpose; its text is fit to show to a person.

    *hint* is what the command line adds to it: what to do.
    """

    hint: ClassVar[str] = ""


class ConfigError(IngestdError):
    """The configuration cannot be used: tell the operator all of *problems* and exit with 2."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class MediaError(IngestdError):
    """The publisher's bytes cannot be parsed: end the session and tell the publisher.

    *offset* is the byte position, counted from the first byte fed to the demuxer, at which the
    malformed element begins.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"byte {offset}: {reason}")
        self.offset = offset
        self.reason = reason


class UnsupportedMedia(IngestdError):
    """The media is well formed, but this sink or pipeline cannot take it: do not retry."""


class AttemptFailed(IngestdError):
    """One attempt of a supervised child failed with a cause: retry after the backoff."""


class FatalFailure(IngestdError):
    """A supervised child cannot succeed whatever is tried: give up at once and say why."""


class PublishRefused(IngestdError):
    """A publisher may not publish: close its socket with *code* and the text as its reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class WatchRefused(IngestdError):
    """A viewer may not watch, or not any more: close its socket with *code* and the text as its reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def leaves(group: BaseException) -> list[BaseException]:
    """The single exceptions in *group*, however deeply nurseries have nested them."""
    if isinstance(group, BaseExceptionGroup):
        return [leaf for member in group.exceptions for leaf in leaves(member)]
    return [group]
