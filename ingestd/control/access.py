"""Who calls."""

from __future__ import annotations


def caller() -> str:
    """The name of who makes this request."""
    return "anybody"
