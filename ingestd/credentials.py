"""Secrets that lie in files: where they are and how they are read. No message ever shows one."""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path

from ingestd.errors import IngestdError

CREDENTIAL = "credential:"
#: Printable ASCII without spaces: all that a key or a URL may be made of.
SECRET = re.compile(r"[!-~]{1,1024}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}", re.ASCII)
_LONGEST = 4096
#: Secrets in one file, see `read_secrets` and `read_signing_secrets`.
_MOST = 8
#: How a secret that signs webhooks begins.
SIGNING = "whsec_"
#: Of a key that seals, as AES-256 has it.
KEY_BYTES = 32


class CredentialError(IngestdError):
    """A secret's file cannot be used; the text names the file, never its content."""


def locate(spec: str) -> Path:
    """The file behind a ``key_file`` value: a path, or ``credential:NAME`` (systemd's LoadCredential=).

    Raises `CredentialError` for a credential where the service manager has passed none.
    """
    if not spec.startswith(CREDENTIAL):
        return Path(spec)
    name = spec.removeprefix(CREDENTIAL)
    if _NAME.fullmatch(name) is None:
        raise CredentialError(f'"{spec}" is no credential; expected "credential:NAME"')
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise CredentialError(
            f'"{spec}" needs $CREDENTIALS_DIRECTORY, which is not set; add LoadCredential={name}:PATH '
            "to the systemd unit, or name a plain file"
        )
    return Path(directory) / name


def read_secret(spec: str) -> str:
    """The secret in the file that *spec* names, without the white space around it.

    Raises `CredentialError` when the file cannot be read, is empty, or holds more than one line.
    """
    path = locate(spec)
    text = _read(path).strip()
    if not text:
        raise CredentialError(f"{path} is empty; expected the key in it")
    if SECRET.fullmatch(text) is None:
        raise CredentialError(f"{path} holds no usable key; expected one line of printable ASCII, no spaces")
    return text


def read_secrets(spec: str) -> tuple[str, ...]:
    """The secrets in the file that *spec* names, one a line: while one is replaced by another, both are good.

    Raises `CredentialError` when the file cannot be read, is empty, or holds anything else, or more than 8.
    """
    path = locate(spec)
    secrets = tuple(line.strip() for line in _read(path).splitlines() if line.strip())
    if not 1 <= len(secrets) <= _MOST or not all(SECRET.fullmatch(secret) for secret in secrets):
        raise CredentialError(
            f"{path} holds no usable secrets; expected 1 to {_MOST} lines of printable ASCII, no spaces"
        )
    return secrets


def read_sealing_keys(spec: str) -> tuple[bytes, ...]:
    """The keys in the file that *spec* names: 32 bytes in base64 a line, the one that seals first.

    Empty lines, and those that begin with "#", do not count. Raises `CredentialError` when the file
    cannot be read, or a line is something else.
    """
    path = locate(spec)
    keys = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            key = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise CredentialError(
                f"{path}, line {number}: expected {KEY_BYTES} bytes in base64, "
                "as `openssl rand -base64 32` makes them"
            )
        keys.append(key)
    if not keys:
        raise CredentialError(f"{path} has no key; `openssl rand -base64 32` makes one")
    return tuple(keys)


def read_signing_secrets(spec: str) -> tuple[bytes, ...]:
    """The secrets in the file that *spec* names: ``whsec_`` and 24 to 64 bytes in base64 a line.

    So Standard Webhooks has them. Empty lines, and those that begin with "#", do not count; each of
    several is signed with. Raises `CredentialError` when the file cannot be read, or a line is none.
    """
    path = locate(spec)
    secrets = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            secret = base64.b64decode(text.removeprefix(SIGNING), validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if not (text.startswith(SIGNING) and 24 <= len(secret) <= 64):
            raise CredentialError(
                f"{path}, line {number}: expected {SIGNING} and 24 to 64 bytes in base64, "
                f'as `echo "{SIGNING}$(openssl rand -base64 32)"` makes them'
            )
        secrets.append(secret)
    if not 1 <= len(secrets) <= _MOST:
        raise CredentialError(
            f"{path}: expected 1 to {_MOST} secrets, got {len(secrets)}; "
            f'`echo "{SIGNING}$(openssl rand -base64 32)"` makes one'
        )
    return tuple(secrets)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode("ascii", "replace")
    except OSError as error:
        raise CredentialError(f"cannot read {path}: {error.strerror}; expected a file with the key") from None
