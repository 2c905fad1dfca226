"""Requests as typed objects, or a `Refusal` that names each field and what was expected there.

Values are never repeated: they may be secrets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta
from quart import request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from ingestd.auth.identity import Scope
from ingestd.control.errors import Refusal
from ingestd.names import NAME, NAME_EXPECTED
from ingestd.structure import unknown_key

T = TypeVar("T", bound=msgspec.Struct)

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?(?P<path>\$[^`]*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.+)`")
#: The pattern of a choice that is made at run time.
_ONE_OF = re.compile(r"\^\(([\w|]+)\)\$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`", re.DOTALL)


def read_query(kind: type[T], given: MultiDict[str, str]) -> T:
    """The query parameters as a *kind*. Raises `Refusal` (400)."""
    lists = {each.encode_name for each in msgspec.structs.fields(kind) if _is_list(each.type)}
    values: dict[str, Any] = {}
    for name, found in given.lists():
        if name in lists:
            values[name] = [part for text in found for part in text.split(",") if part]
        elif len(found) > 1:
            raise _refusal(400, [(name, "expected it once")])
        else:
            values[name] = found[0]
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(400, [_explained(kind, str(error))]) from None


async def read_body(kind: type[T], at_most: int) -> T:
    """The body, JSON of at most *at_most* bytes, as a *kind*; none at all counts as ``{}``.

    Raises `Refusal` (400 for what is no JSON, 422 for what is wrong in it), and Werkzeug's errors for what
    is too large, and for other media types: those a foreign page could send without being asked.
    """
    data = await request.get_data(as_text=False)
    if len(data) > at_most:
        raise RequestEntityTooLarge
    if data and request.mimetype != "application/json":
        raise UnsupportedMediaType('expected a body of "Content-Type: application/json"')
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise _refusal(422, [_explained(kind, str(error))]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = str(error).removeprefix("JSON is malformed: ") if isinstance(error, msgspec.DecodeError) else ""
        raise Refusal(400, f"expected a JSON object as the body{': ' if why else ''}{why}") from None


def wrong(field: str, expected: str) -> Refusal:
    """422: what *field* of the body has is of the right form, and cannot be all the same."""
    return _refusal(422, [(field, expected)])


def beyond(scope: Scope, field: str, why: str) -> Refusal:
    """403: to give *field* takes *scope*, which the token lacks; *why* says what to do."""
    return _refusal(403, [(field, why)], scope=scope)


def _refusal(status: int, errors: Sequence[tuple[str, str]], scope: Scope | None = None) -> Refusal:
    found = [{"field": field, "expected": expected} for field, expected in errors]
    detail = "; ".join(f"{field}: {expected}" if field else expected for field, expected in errors)
    return Refusal(status, detail, scope=scope, errors=found)


def _explained(kind: type[msgspec.Struct], text: str) -> tuple[str, str]:
    """Msgspec's words as a field and what was expected of it."""
    match = _AT.match(text)
    what = match["what"] if match else text
    path = ((match["path"] if match else None) or "$").removeprefix("$").removeprefix(".")
    if found := _MISSING.fullmatch(what):
        return _join(path, found[1]), "is required"
    if found := _UNKNOWN.fullmatch(what):
        known = [] if path else [each.encode_name for each in msgspec.structs.fields(kind)]
        name = found[1] if len(found[1]) <= 64 and found[1].isprintable() else "…"
        return _join(path, name), unknown_key(name, known) if known else "unknown key"
    if (words := _in_words(kind, path)) is not None:
        return path, f"expected {words}"
    # An invalid value of an enumeration is the one thing that msgspec repeats.
    what = re.sub(r"^Invalid enum value .*$", "expected one of the values that the document names", what)
    return path, what.replace("Expected", "expected").replace("`", "")


def _in_words(kind: type[msgspec.Struct], path: str) -> str | None:
    """What the field *path* of *kind* itself may be, where that is a range, a choice or a name."""
    fields = {each.encode_name: each.type for each in msgspec.structs.fields(kind)}
    for choice in _choices(fields.get(path)):
        meta = next((each for each in get_args(choice)[1:] if isinstance(each, Meta)), None)
        inner = get_args(choice)[0] if meta is not None else choice
        if inner is int and meta is not None and meta.ge is not None and meta.le is not None:
            return f"a whole number from {meta.ge} to {meta.le}"
        if inner is str and meta is not None and meta.pattern == f"^{NAME.pattern}$":
            return NAME_EXPECTED.removeprefix("expected ")
        if inner is str and meta is not None and (found := _ONE_OF.fullmatch(meta.pattern or "")):
            return f"one of {found[1].replace('|', ', ')}"
        if get_origin(inner) is Literal:
            return f"one of {', '.join(map(str, get_args(inner)))}"
    return None


def _choices(kind: Any) -> list[Any]:
    """The types that a field of type *kind* may be of, None aside."""
    if get_origin(kind) in (UnionType, Union):
        return [inner for each in get_args(kind) for inner in _choices(each)]
    if get_origin(kind) is Annotated and get_origin(get_args(kind)[0]) in (UnionType, Union):
        return _choices(get_args(kind)[0])
    return [kind]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_list(kind: object) -> bool:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_origin(kind) is list
