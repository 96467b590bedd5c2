# SPDX-License-Identifier: Apache-2.0
"""hook_calls: one plugin's implementation of a hook, called with what it asks for by the names of its parameters.

A parameter `options` is what is configured for that very plugin; no plugin sees another's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pvc_core.model import Settings
from pvc_core.plugin_calls import PluginCalls
from pvc_core.plugin_types import PluginOptions

T = TypeVar("T")


@dataclass(frozen=True)
class HookImplementation:
    """A plugin's function for a hook, and the names of its parameters."""

    plugin: str
    function: Callable[..., object]
    parameters: Sequence[str]


class HookSite(Protocol):
    """What is needed of a registry to call a hook."""

    @property
    def calls(self) -> PluginCalls: ...

    @property
    def options(self) -> Callable[[str, Settings], PluginOptions]: ...


def call_hook(
    site: HookSite,
    implementation: HookImplementation,
    offered: Mapping[str, object],
    settings: Settings,
    read: Callable[[object], T],
) -> T:
    """The plugin's answer as `read` understands it. Raises `PluginError`, also when `read` does not."""
    given = dict(offered)
    if "options" in implementation.parameters:
        given["options"] = site.options(implementation.plugin, settings)
    arguments = [given[name] for name in implementation.parameters]
    return site.calls.ask(implementation.plugin, _answer, implementation.function, arguments, read)


def _answer(function: Callable[..., object], arguments: Sequence[object], read: Callable[[object], T]) -> T:
    return read(function(*arguments))


def ignored(answer: object) -> None:
    """Reads the answer of a hook that is only told something."""
