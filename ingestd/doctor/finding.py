"""What one check says."""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen


class Verdict(StrEnum):
    """*warning*: the daemon does its work, but not all of it, or not for ever."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@frozen(slots=True)
class Finding:
    """One line: what was looked at, how it stands, *detail* in words, and how to *mend* it if need be."""

    check: str
    verdict: Verdict
    detail: str
    mend: str = ""


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, detail)


def warning(check: str, detail: str, mend: str) -> Finding:
    """It works, but."""
    return Finding(check, Verdict.WARNING, detail, mend)


def failed(check: str, detail: str, mend: str) -> Finding:
    """The daemon would not do its work."""
    return Finding(check, Verdict.FAILED, detail, mend)
