# SPDX-License-Identifier: Apache-2.0
"""settings_page: `docs/settings.md`, written from the settings themselves: name, range, default, what it means.

The sentence under each field of `Settings` is its documentation. To write the page again:

    python -m pvc_core.settings_page > docs/settings.md
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from msgspec import inspect as types

from pvc_core.model import Settings

INTRODUCTION = """\
# Settings

<!-- Generated from pvc_core/model.py by: python -m pvc_core.settings_page > docs/settings.md -->

Settings hold for the whole cluster and stand in its store. A change takes effect with the next decision; nothing is
restarted. What concerns one machine is in its [configuration file](operating.md#the-configuration-file), what
concerns one VM in its metadata.

```console
$ pvc cluster settings
$ pvc cluster settings max_parallel_migrations=4 default_selector=load
```

A name or value that is not acceptable is refused with what would be, and nothing is changed.

| setting | values | default | |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Setting:
    """One setting as an operator sees it."""

    name: str
    values: str
    default: str
    meaning: str


def settings() -> Iterator[Setting]:
    """All settings, in the order of the class."""
    meanings = documented_fields(Settings)
    for field in msgspec.structs.fields(Settings):
        if field.name != "schema":
            values = _values(types.type_info(field.type))
            yield Setting(field.name, values, _written(field.default), meanings[field.name])


def documented_fields(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Field names with the string that stands under each; "" where there is none."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    if not isinstance(body, ast.ClassDef):
        raise TypeError(f"{struct.__name__} is not a class")
    found: dict[str, str] = {}
    last = ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            found[last] = ""
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            found[last] = inspect.cleandoc(str(node.value.value)).replace("\n", " ")
    return found


def page() -> str:
    """The whole page."""
    rows = [f"| `{s.name}` | {s.values} | `{s.default}` | {s.meaning} |\n" for s in settings()]
    return INTRODUCTION + "".join(rows)


def _values(kind: types.Type) -> str:
    if isinstance(kind, types.IntType | types.FloatType):
        number = "number" if isinstance(kind, types.FloatType) else "whole number"
        return f"{number}, {_plain(kind.ge)} to {_plain(kind.le)}"
    if isinstance(kind, types.StrType):
        return "name"
    if isinstance(kind, types.BoolType):
        return "true or false"
    if isinstance(kind, types.LiteralType):
        return ", ".join(f"`{value}`" for value in kind.values)
    raise TypeError(f"no words for values of the kind {kind}")


def _plain(bound: float | None) -> str:
    return "any" if bound is None else f"{bound:g}" if bound != int(bound) else str(int(bound))


def _written(default: object) -> str:
    """As one would type it in a command."""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


if __name__ == "__main__":
    sys.stdout.write(page())
