"""Secrets at rest: AES-256-GCM (NIST SP 800-38D) with what they belong to as associated data.

A sealed value is one byte of version, four that name the key, a nonce of twelve, and the ciphertext with
its tag. Nonces are random: at 2^32 values a key would have to be changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

from ingestd.credentials import read_sealing_keys
from ingestd.errors import IngestdError
from ingestd.registry.model import Target

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_NONCE = 12
_HEAD = 5


class SealError(IngestdError):
    """A secret cannot be sealed, or not be opened: the operator has to change the configuration."""


class Sealer:
    """Seals with the first of *keys* (32 bytes each) and opens what any of them has sealed.

    Without keys it seals and opens nothing, and says how to mend that.
    """

    def __init__(self, keys: tuple[bytes, ...] = ()) -> None:
        self._keys = [(_name(key), _cipher(key)) for key in keys]

    @classmethod
    def of(cls, spec: str) -> Sealer:
        """With the keys of the file that *spec* names; without any where it is empty.

        Raises `CredentialError`.
        """
        return cls(read_sealing_keys(spec) if spec else ())

    def __bool__(self) -> bool:
        """Whether it can seal."""
        return bool(self._keys)

    def seal(self, stream: str, target: Target) -> bytes:
        """*target* of *stream*, sealed; raises `SealError` without a key."""
        if not self._keys:
            raise SealError(
                f'the key of sink "{target.sink}" cannot be kept: set database.secret_key_file in '
                "ingestd.toml to a file made by `openssl rand -base64 32`, and restart"
            )
        name, cipher = self._keys[0]
        clear = json.dumps({"key": target.key, "url": target.url}).encode()
        return _VERSION + name + _encrypt(cipher, clear, _place(stream, target.sink))

    def open(self, stream: str, sink: str, sealed: bytes) -> Target:
        """The target of *sink* of *stream*. Raises `SealError` without its key, or when it is not whole."""
        what = f'the key of stream "{stream}", sink "{sink}"'
        if not self._keys:
            raise SealError(f"{what} is sealed, and database.secret_key_file names no key: bring it back")
        if sealed[:1] != _VERSION:
            raise SealError(f"{what} was sealed by another version of ingestd")
        ciphers = [cipher for name, cipher in self._keys if name == sealed[1:_HEAD]]
        if not ciphers:
            raise SealError(
                f"{what} was sealed with a key that database.secret_key_file does not have: bring it back, "
                "in a line of its own"
            )
        for cipher in ciphers:
            found = _decrypt(cipher, sealed[_HEAD:], _place(stream, sink))
            if found is not None:
                clear = json.loads(found)
                return Target(sink=sink, key=clear["key"], url=clear["url"])
        raise SealError(
            f"{what} is damaged, or was another's: give the stream its targets again, or restore a backup"
        )

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first key has sealed it."""
        return bool(self._keys) and sealed[:_HEAD] == _VERSION + self._keys[0][0]


def seal_answer(key: str, scope: str, body: bytes) -> bytes:
    """*body*, to be opened by whoever knows the idempotency *key*, of which the database has a hash only.

    An answer may have a publish key in it, which must not lie in the database in the clear.
    """
    return _encrypt(_derived(key, scope), body, scope.encode())


def open_answer(key: str, scope: str, sealed: bytes) -> bytes:
    """What `seal_answer` has sealed. Raises `SealError` when it is not whole."""
    body = _decrypt(_derived(key, scope), sealed, scope.encode())
    if body is None:
        raise SealError("the answer that was kept for this idempotency key is damaged: use another")
    return body


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # many daemons seal nothing

    return AESGCM(key)


def _derived(key: str, scope: str) -> AESGCM:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    kdf = HKDF(hashes.SHA256(), length=32, salt=scope.encode(), info=b"ingestd idempotency")
    return _cipher(kdf.derive(key.encode()))


def _name(key: bytes) -> bytes:
    """Four bytes that tell keys apart, and nothing else of them."""
    return hashlib.sha256(b"ingestd sealing key" + key).digest()[: _HEAD - 1]


def _place(stream: str, sink: str) -> bytes:
    return json.dumps(["target", stream, sink]).encode()


def _encrypt(cipher: AESGCM, clear: bytes, place: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, clear, place)


def _decrypt(cipher: AESGCM, sealed: bytes, place: bytes) -> bytes | None:
    """None where it is not whole, or of another key or place."""
    from cryptography.exceptions import InvalidTag

    if len(sealed) < _NONCE + 16:
        return None
    try:
        return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], place)
    except InvalidTag:
        return None
