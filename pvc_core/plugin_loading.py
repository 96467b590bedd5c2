# SPDX-License-Identifier: Apache-2.0
"""plugin_loading: which installed plugins take part, each tried on its own, so that a broken one costs only itself.

Finding plugins reads the entry points of every installed distribution, and the metadata only of those that have
one of the group `pvc`.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pluggy

from pvc_core import hookspecs
from pvc_core.contributions import ApiResource, CliCommand
from pvc_core.errors import PluginError
from pvc_core.fencing import FenceAgentEntry
from pvc_core.networks import NetworkEntry
from pvc_core.plugin_calls import PluginCalls
from pvc_core.plugin_configuration import PluginConfiguration, checked_section
from pvc_core.plugin_threads import ask_here
from pvc_core.plugin_types import (
    NO_OPTIONS,
    FilterEntry,
    HypervisorEntry,
    PluginOptions,
    RecoveryPolicyEntry,
    SelectorEntry,
    StoreEntry,
)
from pvc_core.storage import StorageBackendEntry
from pvc_core.task_entries import NodeTaskEntry

ENTRY_POINT_GROUP = "pvc"
OWN_DISTRIBUTION = "pvc"

DriverEntry = (
    StoreEntry
    | HypervisorEntry
    | FilterEntry
    | SelectorEntry
    | RecoveryPolicyEntry
    | StorageBackendEntry
    | FenceAgentEntry
    | NetworkEntry
    | NodeTaskEntry
    | CliCommand
    | ApiResource
)

ENTRY_TYPES: Mapping[str, type[DriverEntry]] = {
    "stores": StoreEntry,
    "hypervisors": HypervisorEntry,
    "filters": FilterEntry,
    "selectors": SelectorEntry,
    "recovery_policies": RecoveryPolicyEntry,
    "storage_backends": StorageBackendEntry,
    "fence_agents": FenceAgentEntry,
    "networks": NetworkEntry,
    "node_tasks": NodeTaskEntry,
    "cli_commands": CliCommand,
    "api_resources": ApiResource,
}
"""Kinds of drivers and contributions; the hook that registers one is called `pvc_<kind>`."""

CALLED: Mapping[type[DriverEntry], tuple[str, str]] = {
    StoreEntry: ("open", ""),
    HypervisorEntry: ("open", ""),
    FilterEntry: ("filter", "reject"),
    SelectorEntry: ("selector", "score"),
    RecoveryPolicyEntry: ("policy", "without_candidate"),
    StorageBackendEntry: ("open", ""),
    FenceAgentEntry: ("agent", "power_off"),
    NetworkEntry: ("open", ""),
    NodeTaskEntry: ("run", ""),
}
"""The field of an entry that is called, and the method, where it is not called itself."""

_DRIVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_RESERVED_NAMES = frozenset({"none"})


@dataclass(frozen=True)
class PluginInfo:
    """One plugin as `pvc plugin list` shows it. `drivers`: kind to the names it registered and was granted.

    error: why it failed, or, of an active plugin, which of its drivers were refused.
    """

    name: str
    distribution: str
    version: str
    summary: str
    state: Literal["active", "blocked", "failed"]
    hooks: tuple[str, ...] = ()
    drivers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class FoundPlugin:
    """A plugin before it is loaded: its name, where it comes from, and how to import it."""

    name: str
    load: Callable[[], object]
    distribution: str = ""
    version: str = ""
    distribution_summary: str = ""

    @property
    def is_our_own(self) -> bool:
        """It ships with PVC itself."""
        return self.distribution == OWN_DISTRIBUTION

    def is_wanted(self, blocked: Collection[str]) -> bool:
        """Neither it nor its distribution is blocked."""
        return self.name not in blocked and self.distribution not in blocked

    @property
    def origin(self) -> str:
        """For people: where it comes from."""
        return f"{self.distribution} {self.version}".strip() or "this process"


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin that imported well, kept every rule, and what it registers."""

    found: FoundPlugin
    summary: str
    hooks: tuple[str, ...]
    drivers: Mapping[str, tuple[DriverEntry, ...]]
    configuration: PluginConfiguration | None = None
    """None: it declares no options."""


# ------------------------------------------------------------------------------------------------- finding


def installed_plugins(problems: list[str]) -> Iterator[FoundPlugin]:
    """Every entry point of the group, by distribution; a distribution that cannot be read becomes a problem."""
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            found = ask_here("", _plugins_of, distribution)
        except PluginError as error:
            problems.append(f"an installed distribution cannot be read: {error.problem}")
            continue
        # The first of two copies on the path is the one that Python imports.
        if found and found[0].distribution not in seen:
            seen.add(found[0].distribution)
            yield from found


def _plugins_of(distribution: importlib.metadata.Distribution) -> list[FoundPlugin]:
    entry_points = [point for point in distribution.entry_points if point.group == ENTRY_POINT_GROUP]
    if not entry_points:
        return []
    metadata = distribution.metadata
    name = re.sub(r"[-_.]+", "-", metadata["Name"]).lower()
    summary = metadata["Summary"] if "Summary" in metadata else ""  # noqa: SIM401 - its protocol has no get
    return [FoundPlugin(point.name, point.load, name, distribution.version, summary) for point in entry_points]


# ------------------------------------------------------------------------------------------------- loading


class PluginLoader:
    """Loads plugins one after the other into one pluggy manager, which never keeps one that broke a rule."""

    def __init__(self, calls: PluginCalls, sections: Mapping[str, object]) -> None:
        """sections: what this machine's configuration says to plugins, by their names."""
        self._calls = calls
        self._sections = sections
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)

    def load(self, found: FoundPlugin) -> LoadedPlugin:
        """Import, register, check, and ask for its drivers. Raises `PluginError`."""
        plugin = self._calls.load(found.name, found.load)
        try:
            return ask_here(found.name, self._register, found, plugin)
        except PluginError:
            if self.manager.has_plugin(found.name):
                self.manager.unregister(name=found.name)
            raise

    def _register(self, found: FoundPlugin, plugin: object) -> LoadedPlugin:
        self.manager.register(plugin, found.name)
        self.manager.check_pending()
        implementations = dict(self._implementations(plugin))
        if not implementations:
            raise PluginError(found.name, "implements no hook of PVC")
        for hook, implementation in implementations.items():
            _check_signature(found.name, hook, implementation)
        configuration = self._configuration(found, implementations.get("pvc_config_section"))
        options = configuration.without_cluster if configuration else NO_OPTIONS
        drivers = {
            kind: _checked_entries(found.name, kind, self._answer(found, implementations[f"pvc_{kind}"], options))
            for kind in ENTRY_TYPES
            if f"pvc_{kind}" in implementations
        }
        documentation = (getattr(plugin, "__doc__", None) or "").strip()
        return LoadedPlugin(
            found=found,
            summary=documentation.partition("\n")[0] or found.distribution_summary,
            hooks=tuple(implementations),
            drivers=drivers,
            configuration=configuration,
        )

    def _configuration(self, found: FoundPlugin, hook: pluggy.HookImpl | None) -> PluginConfiguration | None:
        """The plugin's options, with what is configured of them here; None when it declares none."""
        if hook is None:
            return None
        section = checked_section(found.name, self._answer(found, hook, NO_OPTIONS))
        return PluginConfiguration(found.name, section, self._sections.get(found.name), self._calls)

    def _answer(self, found: FoundPlugin, hook: pluggy.HookImpl, options: PluginOptions) -> object:
        """What a registration hook returns; it gets the options if it takes them."""
        return self._calls.load(found.name, hook.function, *([options] if "options" in hook.argnames else []))

    def _implementations(self, plugin: object) -> Iterator[tuple[str, pluggy.HookImpl]]:
        """The hooks of this PVC that the plugin implements; an optional one of a later PVC is none."""
        for caller in self.manager.get_hookcallers(plugin) or ():
            if caller.has_spec():
                yield from ((caller.name, found) for found in caller.get_hookimpls() if found.plugin is plugin)


def _check_signature(plugin: str, hook: str, implementation: pluggy.HookImpl) -> None:
    """Plain positional parameters and no wrappers: pluggy would not pass the others, silently."""
    if implementation.wrapper or implementation.hookwrapper:
        raise PluginError(plugin, f"{hook} is a wrapper; a plugin may not stand between others and their hooks")
    for parameter in inspect.signature(implementation.function).parameters.values():
        if parameter.default is not parameter.empty or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            raise PluginError(plugin, f"{hook}: the parameter {parameter} must be plain, without a default")


def _checked_entries(plugin: str, kind: str, answer: object) -> tuple[DriverEntry, ...]:
    """What a registration hook returned, with the plugin's name filled in. Raises `PluginError`."""
    entry_type, hook = ENTRY_TYPES[kind], f"pvc_{kind}"
    if not isinstance(answer, Sequence) or isinstance(answer, str):
        raise PluginError(plugin, f"{hook} returned {type(answer).__name__} instead of a list of entries")
    names: set[str] = set()
    for entry in answer:
        if not isinstance(entry, entry_type):
            raise PluginError(plugin, f"{hook} returned a {type(entry).__name__} instead of a {entry_type.__name__}")
        if isinstance(entry, CliCommand | ApiResource):
            if problem := entry.problem():
                raise PluginError(plugin, f"{hook}: {entry!r} cannot be used: {problem}")
        else:
            _check_driver(plugin, hook, entry)
        if entry.name in names:
            raise PluginError(plugin, f"{hook} registers {entry.name!r} twice")
        names.add(entry.name)
    return tuple(dataclasses.replace(entry, plugin=plugin) for entry in answer)


def _check_driver(plugin: str, hook: str, entry: DriverEntry) -> None:
    """The name is one, and the object behind it can be called as its Protocol says."""
    if not isinstance(entry.name, str) or not _DRIVER_NAME.fullmatch(entry.name) or entry.name in _RESERVED_NAMES:
        raise PluginError(plugin, f"{hook} registers {entry.name!r}, which is no valid name of a driver")
    attribute, method = CALLED[type(entry)]
    driver = getattr(entry, attribute)
    if isinstance(driver, type) and method:
        raise PluginError(plugin, f"{hook}: {entry.name!r} is the class {driver.__name__}; an instance is needed")
    if not callable(getattr(driver, method, None) if method else driver):
        raise PluginError(plugin, f"{hook}: {entry.name!r} has no method {method or attribute!r} to call")
