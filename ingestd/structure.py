"""Parsed TOML → frozen attrs classes, strictly, with every problem of a table found in one pass.

This is cattrs with hooks for the marks of `ingestd.config` (durations, sizes, rates, paths …) and
without its leniency: a boolean is no integer, a string is no array. Values of the wrong type are
never repeated in a problem, because they may be secrets.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, override

from ingestd.address import Address
from ingestd.credentials import CREDENTIAL
from ingestd.units import (
    parse_address,
    parse_duration,
    parse_frequency,
    parse_picture,
    parse_rate,
    parse_size,
)

T = TypeVar("T")
#: A key path and what is wrong there.
Problem: TypeAlias = tuple[str, str]

_TYPES = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array"}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class Mismatch(TypeError):
    """A value has another TOML type than its key; the text says which was expected."""


class Structurer:
    """Turns tables into classes; relative paths in them become absolute against *base*."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._converter = cattrs.Converter(detailed_validation=True)
        for kind, hook in (
            (bool, _exactly(bool, "true or false")),
            (int, _exactly(int, "a whole number without quotes")),
            (str, _exactly(str, "a string in quotes")),
            (float, _number),
            (Path, self._path),
            (Address, _address),
        ):
            self._converter.register_structure_hook(kind, hook)
        for mark, parse in (
            ("duration", _quantity(parse_duration, 'a duration in quotes like "2s"')),
            ("size", _quantity(parse_size, 'a size in quotes like "16MiB"')),
            ("rate", _quantity(parse_rate, 'a bit rate in quotes like "2500k"')),
            ("picture", _quantity(parse_picture, 'a width and height in quotes like "1280x720"')),
            ("frequency", _quantity(parse_frequency, 'how often in which time, in quotes, like "10/1m"')),
            ("key_file", self._key_file),
            ("file", self._key_file),
        ):
            self._converter.register_structure_hook_func(_marked(mark), parse)
        self._converter.register_structure_hook_func(_has_origin(Literal), _choice)
        self._converter.register_structure_hook_func(_has_origin(tuple), self._array)
        self._converter.register_structure_hook_factory(attrs.has, self._class_hook)

    def structure(self, table: object, kind: type[T]) -> tuple[T | None, list[Problem]]:
        """*table* as a *kind*, or None with at least one problem; key paths are relative to the table."""
        if not isinstance(table, dict):
            return None, [("", f"expected a table, got {type_name(table)}")]
        try:
            return self._converter.structure(table, kind), []
        except ClassValidationError as error:
            return None, list(_flatten(error, ""))

    def _class_hook(self, kind: type[Any]) -> Callable[[Any, Any], Any]:
        attrs.resolve_types(kind, include_extras=True)
        hooks = {each.name: override(struct_hook=self._field_hook(each)) for each in attrs.fields(kind)}
        inner = make_dict_structure_fn(
            kind,
            self._converter,
            _cattrs_forbid_extra_keys=True,
            _cattrs_detailed_validation=True,
            **hooks,  # type: ignore[arg-type]  # overrides by field name; the stub cannot say so
        )

        def structure(value: Any, cls: Any) -> Any:
            if not isinstance(value, dict):  # a table within a table
                raise Mismatch(f"expected a table, got {type_name(value)}")
            return inner(value, cls)

        return structure

    def _field_hook(self, attribute: attrs.Attribute[Any]) -> Callable[[Any, Any], Any]:
        def structure(value: Any, _kind: Any) -> Any:
            result = self._converter.structure(value, attribute.type)  # type: ignore[arg-type]
            if attribute.validator is not None:
                attribute.validator(None, attribute, result)
            return result

        return structure

    def _path(self, value: object, _kind: object) -> Path:
        if not (isinstance(value, str) and value):
            raise Mismatch(f"expected a path in quotes, got {type_name(value)}")
        if "\0" in value:
            raise ValueError("expected a path, got one with a zero byte")
        try:
            return self._base / Path(value).expanduser()
        except RuntimeError:  # ~ without a home, ~user without a user
            raise ValueError(f'expected a path, got "{value}" without such a home directory') from None

    def _key_file(self, value: object, kind: object) -> str:
        if isinstance(value, str) and (not value or value.startswith(CREDENTIAL)):
            return value
        return str(self._path(value, kind))

    def _array(self, value: object, kind: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Mismatch(f'expected an array like ["1s", "2s"], got {type_name(value)}')
        items: Any = list[get_args(kind)[0]]  # type: ignore[misc]  # a type made at run time
        return tuple(self._converter.structure(value, items))


def type_name(value: object) -> str:
    """What TOML calls the type of *value*, with its article; an empty string is called that."""
    if value == "":
        return "an empty string"
    return _TYPES.get(type(value), "a table" if isinstance(value, Mapping) else "a date or time")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``', did you mean "x"?'`` for the nearest of *known*, or nothing."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f', did you mean "{near[0]}"?' if near else ""


def join(path: str, key: str) -> str:
    """The key path of *key* in the table at *path*, quoted where TOML would."""
    quoted = key if _BARE_KEY.fullmatch(key) else json.dumps(key)
    return f"{path}.{quoted}" if path else quoted


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What to say about a key that is none of *known*."""
    known = sorted(known)
    return f"unknown key{did_you_mean(key, known) or '; known: ' + ', '.join(known)}"


def _flatten(error: BaseException, path: str) -> Iterator[Problem]:
    if isinstance(error, ClassValidationError):
        located, others = error.group_exceptions()
        for cause, note in located:
            yield from _flatten(cause, join(path, note.name))
        for other in others:
            yield from _flatten(other, path)
    elif isinstance(error, IterableValidationError):
        for cause, place in error.group_exceptions()[0]:
            yield from _flatten(cause, f"{path}[{place.index}]")
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [each.name for each in attrs.fields(error.cl)]
        for key in sorted(error.extra_fields):
            yield join(path, key), unknown_key(key, known)
    elif isinstance(error, KeyError):
        yield path, "is missing"
    elif isinstance(error, ValueError | Mismatch):
        yield path, str(error)
    else:
        raise error


def _has_origin(origin: object) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) == origin


def _marked(mark: str) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is Annotated and mark in kind.__metadata__


def _exactly(kind: type[Any], expected: str) -> Callable[[object, object], Any]:
    def structure(value: object, _kind: object) -> Any:
        if type(value) is not kind:
            raise Mismatch(f"expected {expected}, got {type_name(value)}")
        return value

    return structure


def _number(value: object, _kind: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Mismatch(f"expected a number without quotes, got {type_name(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _quantity(parse: Callable[[str], T], expected: str) -> Callable[[object, object], T]:
    def structure(value: object, _kind: object) -> T:
        if type(value) is int and value == 0:
            value = "0"
        if not isinstance(value, str):
            raise Mismatch(f"expected {expected}, got {type_name(value)}")
        return parse(value)

    return structure


def _address(value: object, _kind: object) -> Address:
    if not isinstance(value, str):
        raise Mismatch(f'expected host:port in quotes like "127.0.0.1:8080", got {type_name(value)}')
    host, port = parse_address(value)
    return Address(host=host, port=port)


def _choice(value: object, kind: object) -> str:
    allowed = get_args(kind)
    expected = "expected one of " + ", ".join(f'"{each}"' for each in allowed)
    if not isinstance(value, str):
        raise Mismatch(f"{expected}; got {type_name(value)}")
    if value not in allowed:
        raise ValueError(f'{expected}; got "{value}"{did_you_mean(value, allowed)}')
    return value
