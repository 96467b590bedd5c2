# SPDX-License-Identifier: Apache-2.0
"""strict_reading: which key of a document is wrong, with its value and what would be right.

What people write by hand has misspelt keys and values of the wrong kind. Every refusal names the path of the key as
it was written, and a key that nobody knows comes with the nearest one that somebody does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from pvc_core.documented_fields import values_of
from pvc_core.errors import InvalidInput

T = TypeVar("T")

_SHOWN_CHARACTERS = 80


def read_strictly(found: object, kind: type[T], where: str = "", *, literally: bool = True) -> T:
    """What was found, as `kind`. Raises `InvalidInput` whose field is the path, which begins with `where`.

    literally: "3" is no number. Otherwise numbers and truth values may be given as text.
    """
    _check(found, kind, where, literally)
    converted: T = _converted(found, kind, where, literally)
    return converted


def unknown_key(path: str, key: str, known: Collection[str], problem: str = "is not a key of this") -> InvalidInput:
    """The refusal of a key: with the nearest known one, or with all of them when none is near."""
    near = nearest(key, known)
    return InvalidInput(path, f"{problem}{meant(near)}", allowed=() if near else tuple(known))


def nearest(word: str, known: Collection[str]) -> str:
    """The known word that was probably meant; "" when none is near."""
    return next(iter(get_close_matches(word, known, 1)), "")


def meant(near: str) -> str:
    """The end of a refusal's sentence: "; is weight meant?", or nothing."""
    return f"; is {near} meant?" if near else ""


def _check(found: object, kind: Any, where: str, literally: bool) -> None:
    """Look into tables and lists for the innermost thing that is wrong."""
    for inner, path, value in _inside(found, kind, where):
        _check(value, inner, path, literally)
        _converted(value, inner, path, literally)


def _inside(found: object, kind: Any, where: str) -> Iterator[tuple[Any, str, object]]:
    """The parts of what was found: the type of each, its path and its value. Raises for unknown and missing keys."""
    for candidate in _alternatives(kind):
        origin, arguments = get_origin(candidate), get_args(candidate)
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct) and isinstance(found, Mapping):
            fields = {field.encode_name: field for field in msgspec.structs.fields(candidate)}
            for key in found:
                if key not in fields:
                    raise unknown_key(_path(where, key), str(key), fields)
            for name, field in fields.items():
                if name in found:
                    yield field.type, _path(where, name), found[name]
                elif field.required:
                    raise InvalidInput(_path(where, name), "is required")
        elif origin is dict and isinstance(found, Mapping):
            yield from ((arguments[1], _path(where, key), value) for key, value in found.items())
        elif (
            origin in (list, tuple) and isinstance(found, list | tuple) and (origin is list or arguments[1:] == (...,))
        ):
            yield from ((arguments[0], f"{where}[{index}]", value) for index, value in enumerate(found))


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union that can be looked into; the type itself when it is none."""
    if hasattr(kind, "__metadata__"):
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return tuple(one for member in get_args(kind) if member is not type(None) for one in _alternatives(member))
    return (kind,)


def _path(where: str, key: object) -> str:
    return f"{where}{'' if not where or where.endswith((': ', '.')) else '.'}{key}"


def _converted(found: object, kind: Any, where: str, literally: bool) -> Any:
    try:
        return msgspec.convert(found, kind, strict=literally)
    except msgspec.ValidationError as error:
        problem = str(error).partition(" - at `")[0].replace("`", "")
        values = values_of(kind)
        shown = "" if isinstance(found, Mapping | list | tuple) else _shown(found)
        raise InvalidInput(where, problem[:1].lower() + problem[1:], shown, (values,) if values else ()) from error


def _shown(found: object) -> str:
    text = str(found).lower() if isinstance(found, bool) else str(found)
    return text[:_SHOWN_CHARACTERS]
