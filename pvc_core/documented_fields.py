# SPDX-License-Identifier: Apache-2.0
"""documented_fields: what the fields of a struct accept and mean, in words: for pages, tables and refusals.

The sentence under a field is its documentation, its type with the range says what it accepts. So what an operator
reads is what the code checks.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import msgspec
from msgspec import inspect as types


@dataclass(frozen=True)
class DocumentedField:
    """One field as an operator sees it: what it accepts, its default as one would type it, and what it means."""

    name: str
    values: str
    default: str
    meaning: str


def described_fields(struct: type[msgspec.Struct], without: tuple[str, ...] = ()) -> Iterator[DocumentedField]:
    """The fields of a struct, in the order of the class; without meanings when its source is not there."""
    try:
        meanings = documented_fields(struct)
    except (OSError, TypeError, SyntaxError):
        meanings = {}
    for field in msgspec.structs.fields(struct):
        if field.name not in without:
            default = written(_default(field))
            yield DocumentedField(field.encode_name, values_of(field.type), default, meanings.get(field.name, ""))


def _default(field: msgspec.structs.FieldInfo) -> object:
    """What the field is when it is not given; None when it must be."""
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def documented_fields(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Field names with the string that stands under each, or its `Meta(description=...)`; "" where there is none.

    Raises `OSError` or `TypeError` for a class whose source is not there.
    """
    return dict(_documented_fields(struct))


@cache
def _documented_fields(struct: type[msgspec.Struct]) -> Mapping[str, str]:
    """Read from the source once: it does not change while it runs."""
    described = {field.name: _description(types.type_info(field.type)) for field in msgspec.structs.fields(struct)}
    if all(described.values()):
        return described
    sentences = {name: text for cls in reversed(struct.__mro__) for name, text in _sentences(cls).items()}
    return {name: text or sentences.get(name, "") for name, text in described.items()}


def _description(kind: types.Type) -> str:
    found = (kind.extra_json_schema or {}).get("description", "") if isinstance(kind, types.Metadata) else ""
    return str(found)


def _sentences(cls: type) -> dict[str, str]:
    """The strings under the fields that this very class has."""
    if not issubclass(cls, msgspec.Struct) or cls is msgspec.Struct:
        return {}
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    if not isinstance(body, ast.ClassDef):
        raise TypeError(f"{cls.__name__} is not a class")
    found: dict[str, str] = {}
    last = ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            found[last] = ""
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            found[last] = inspect.cleandoc(str(node.value.value)).replace("\n", " ")
    return found


# ---------------------------------------------------------------------------------------------- in words


def values_of(kind: object) -> str:
    """What a type accepts: "whole number, 1 to 64"; "" where there are no words for it."""
    return _words(types.type_info(kind))


def _words(kind: types.Type) -> str:
    match kind:
        case types.Metadata():
            # A title says it where all values, or a pattern, would say too much.
            return str((kind.extra_json_schema or {}).get("title", "")) or _words(kind.type)
        case types.IntType():
            return f"whole number{_range(kind)}"
        case types.FloatType():
            return f"number{_range(kind)}"
        case types.BoolType():
            return "true or false"
        case types.StrType():
            return "text"
        case types.LiteralType():
            return ", ".join(str(value) for value in kind.values)
        case types.EnumType():
            return ", ".join(str(item.value) for item in kind.cls)
        case types.VarTupleType() | types.ListType():
            return f"list of {_words(kind.item_type)}" if _words(kind.item_type) else ""
        case types.DictType() | types.StructType():
            return "table"
        case types.UnionType():
            members = [_words(member) for member in kind.types if not isinstance(member, types.NoneType)]
            return " or ".join(members) if all(members) else ""
    return ""


def _range(kind: types.IntType | types.FloatType) -> str:
    """The bounds: ", 1 to 64", ", at least 1", ", above 0"; "" without any."""
    low = high = ""
    if kind.ge is not None or kind.gt is not None:
        low = f"at least {_plain(kind.ge)}" if kind.ge is not None else f"above {_plain(kind.gt or 0)}"
    if kind.le is not None or kind.lt is not None:
        high = f"at most {_plain(kind.le)}" if kind.le is not None else f"below {_plain(kind.lt or 0)}"
    if kind.ge is not None and kind.le is not None:
        return f", {_plain(kind.ge)} to {_plain(kind.le)}"
    return "".join(f", {bound}" for bound in (low, high) if bound)


def _plain(bound: float) -> str:
    return f"{bound:g}" if bound != int(bound) else str(int(bound))


def written(value: object) -> str:
    """A value as one would type it in a command."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(written(item) for item in value)
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
