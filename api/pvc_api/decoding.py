# SPDX-License-Identifier: Apache-2.0
"""decoding: JSON and query strings into typed requests, where every refusal names the field and what is allowed.

Bodies are taken literally: "3" is not a number and "yes" is not true. Query strings are text, so there numbers
and booleans are read from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
from msgspec import inspect

from pvc_core.contributions import ApiBody, ApiQuery
from pvc_core.errors import InvalidInput
from pvc_core.fence_secrets import sounds_secret
from pvc_core.strict_reading import meant, nearest

T = TypeVar("T")

Body = ApiBody
Query = ApiQuery

_AT = re.compile(r" - at `\$(?P<path>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+)\]|\[(?P<any>\.\.\.)\]")
_SHOWN_CHARACTERS = 80


def read(model: type[T], value: object) -> T:
    """The value as `model`. Raises `InvalidInput` with the path of the field that does not fit."""
    is_text = isinstance(model, type) and issubclass(model, Query)
    try:
        return msgspec.convert(value, type=model, strict=not is_text)
    except msgspec.ValidationError as error:
        raise _explain(str(error), model, value) from error


def _explain(message: str, model: object, value: object) -> InvalidInput:
    at = _AT.search(message)
    steps = [match.group() for match in _STEP.finditer(at["path"])] if at else []
    problem = message[: at.start()] if at else message
    kind, found = _follow(inspect.type_info(model), value, steps)
    unknown = _UNKNOWN.fullmatch(problem)
    if unknown:
        known = _field_names(kind)
        problem = f"is not a field of this{meant(nearest(unknown['name'], known))}"
        return InvalidInput(_field(steps, unknown["name"]), problem, allowed=known)
    missing = _MISSING.fullmatch(problem)
    if missing:
        return InvalidInput(_field(steps, missing["name"]), "is required")
    hidden = isinstance(found, Mapping | list | tuple) or found is None or any(map(sounds_secret, steps[-1:]))
    shown = "" if hidden else str(found)[:_SHOWN_CHARACTERS]
    return InvalidInput(_field(steps), _lower_first(problem.replace("`", "")), shown, _choices(kind))


def _field(steps: Sequence[str], name: str = "") -> str:
    """The path as people write it: metadata.node_limit[0]."""
    return "".join((*steps, f".{name}" if name else "")).removeprefix(".") or "body"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _follow(kind: inspect.Type, value: object, steps: Sequence[str]) -> tuple[inspect.Type, object]:
    """The type and the value at the end of a path, as far as both can be told."""
    for step in steps:
        match = _STEP.fullmatch(step)
        assert match is not None
        kind = _inner(kind, match["name"])
        if match["name"] is not None:
            value = value.get(match["name"]) if isinstance(value, Mapping) else None
        elif match["index"] is not None:
            index = int(match["index"])
            value = value[index] if isinstance(value, list) and index < len(value) else None
        else:
            value = None
    return kind, value


def _members(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    """A union's members, or the type itself, without annotations."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return tuple(m for k in kind.types for m in _members(k)) if isinstance(kind, inspect.UnionType) else (kind,)


def _inner(kind: inspect.Type, name: str | None) -> inspect.Type:
    for member in _members(kind):
        if name is not None and isinstance(member, inspect.StructType):
            for field in member.fields:
                if field.encode_name == name:
                    return field.type
        if name is None and isinstance(member, inspect.ListType | inspect.VarTupleType):
            return member.item_type
        if name is None and isinstance(member, inspect.DictType):
            return member.value_type
    return inspect.AnyType()


def _field_names(kind: inspect.Type) -> tuple[str, ...]:
    """What a struct accepts."""
    structs = [member for member in _members(kind) if isinstance(member, inspect.StructType)]
    return tuple(field.encode_name for struct in structs for field in struct.fields)


def _choices(kind: inspect.Type) -> tuple[str, ...]:
    """What an enumeration accepts; empty for any other type."""
    choices: list[str] = []
    for member in _members(kind):
        if isinstance(member, inspect.LiteralType):
            choices += [str(value) for value in member.values]
        elif isinstance(member, inspect.EnumType):
            choices += [str(item.value) for item in member.cls]
    return tuple(choices)
