# SPDX-License-Identifier: Apache-2.0
"""hooks_page: `docs/plugins/hooks.md`, written from the hooks' own documentation in `hookspecs`.

Each docstring is a sentence, paragraphs, three of which begin with `Called:`, `Together:` and `Failing:`, and an
example, indented, up to its end. To write the page again:

    python -m pvc_core.hooks_page > docs/plugins/hooks.md
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pvc_core import hookspecs
from pvc_core.plugin_loading import ENTRY_TYPES

LABELS = ("Called", "Together", "Failing")
"""What every hook says of itself: when, how several plugins' answers are combined, what a failure means."""

INTRODUCTION = """\
# Hooks

<!-- Generated from pvc_core/hookspecs.py by: python -m pvc_core.hooks_page > docs/plugins/hooks.md -->

"""

ISOLATION = """\
A plugin of another distribution than PVC's own answers on a thread of its own, within the time that its hook names;
after three failures in a row it is not asked for a while. The reasons, and what cannot be contained, are in
[ADR 0008](../adr/0008-plugin-isolation.md); `pvc plugin show` tells how a plugin fares.

Every name in the examples that is imported from `pvc_core` is part of the plugin API. A test loads each example as a
plugin and calls what it registers.

"""


@dataclass(frozen=True)
class HookPage:
    """One hook's documentation. paragraphs: by label, and by number those without one, in their order."""

    name: str
    signature: str
    summary: str
    paragraphs: dict[str, str]
    example: str

    @property
    def registers_drivers(self) -> bool:
        """It returns entries that are then chosen by name."""
        return self.name.removeprefix("pvc_") in ENTRY_TYPES


def hooks() -> Iterator[HookPage]:
    """All hooks, in the order in which they stand."""
    for name, function in vars(hookspecs).items():
        if name.startswith("pvc_") and inspect.isfunction(function):
            yield hook_page(function)


def hook_page(function: Callable[..., object]) -> HookPage:
    """What the docstring of a hook's specification says."""
    lines = inspect.cleandoc(function.__doc__ or "").splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith("    ")), len(lines))
    blocks = "\n".join(lines[:start]).strip().split("\n\n")
    paragraphs = {}
    for number, block in enumerate(blocks[1:]):
        label, colon, text = block.partition(":")
        known = bool(colon) and label in LABELS
        paragraphs[label if known else str(number)] = text.strip() if known else block
    return HookPage(
        name=function.__name__,
        signature=_signature(function),
        summary=" ".join(blocks[0].split()),
        paragraphs=paragraphs,
        example=textwrap.dedent("\n".join(lines[start:])).strip(),
    )


def _signature(function: Callable[..., object]) -> str:
    """As it stands in the source, types included, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    if not isinstance(definition, ast.FunctionDef) or definition.returns is None:
        raise TypeError(f"{function.__name__} is no hook")
    return f"{definition.name}({ast.unparse(definition.args)}) -> {ast.unparse(definition.returns)}"


def page() -> str:
    """The whole page."""
    found = list(hooks())
    drivers = [hook for hook in found if hook.registers_drivers]
    others = [hook for hook in found if not hook.registers_drivers]
    parts = [INTRODUCTION, _rules(), ISOLATION]
    for title, group in (("Hooks that register drivers", drivers), ("Hooks for all plugins", others)):
        parts.append(f"## {title}\n\n| hook | |\n| --- | --- |\n")
        parts += [f"| [`{hook.name}`](#{hook.name}) | {hook.summary} |\n" for hook in group]
        parts.append("\n")
        parts += [_section(hook) for hook in group]
    return "".join(parts).rstrip("\n") + "\n"


def _rules() -> str:
    """What the module says to all plugins, its examples as code."""
    parts = []
    for block in inspect.cleandoc(hookspecs.__doc__ or "").split("\n\n")[1:]:
        code = block.startswith("    ")
        parts.append(f"```toml\n{textwrap.dedent(block)}\n```\n\n" if code else f"{block}\n\n")
    return "".join(parts)


def _section(hook: HookPage) -> str:
    parts = [f"### {hook.name}\n\n", f"```text\ndef {hook.signature}\n```\n\n", f"{hook.summary}\n\n"]
    for label, text in hook.paragraphs.items():
        parts.append(f"**{label}**: {text}\n\n" if label in LABELS else f"{text}\n\n")
    parts.append(f"```python\n{hook.example}\n```\n\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
