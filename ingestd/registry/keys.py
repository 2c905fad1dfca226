"""Names and publish keys that the daemon makes up, and what is kept of a key."""

from __future__ import annotations

import hashlib
import secrets
import string

#: No letters that are taken for digits, and none that need the shift key.
_NAME_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_NAME_LENGTH = 10
#: Letters and digits only: a double click takes all of it, and none begins with "-" on a command line.
_KEY_LETTERS = string.ascii_letters + string.digits
_KEY_LENGTH = 28


def make_name() -> str:
    """A stream name of ten lower-case letters and digits (49 bits): whoever stores it looks for a clash."""
    return "".join(secrets.choice(_NAME_LETTERS) for _ in range(_NAME_LENGTH))


def make_key() -> str:
    """A publish key of 166 random bits that can stand in a URL as it is."""
    return "".join(secrets.choice(_KEY_LETTERS) for _ in range(_KEY_LENGTH))


def digest(key: str) -> bytes:
    """What is kept of *key*: its SHA-256. Takes any text, also what no key can be."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
