# SPDX-License-Identifier: Apache-2.0
"""registry: which driver a name means, on this machine, and what became of every plugin.

    registry = Registry.load(configuration.plugins.blocked, configuration.plugin)
    registry.selectors["mem"]; registry.open_store("sqlite:///var/lib/pvc/store.db"); registry.problems

A name that two plugins register is refused to both, since otherwise the order of installation would decide;
PVC's own names are refused to others, so that no package can take a cluster's filters away by its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from pvc_core.contributions import ApiResource, CliCommand
from pvc_core.errors import InvalidInput, PluginError, PvcError
from pvc_core.fencing import FenceAgentEntry
from pvc_core.hook_calls import HookImplementation, call_hook
from pvc_core.model import Settings
from pvc_core.networks import NetworkEntry
from pvc_core.plugin_calls import DEFAULT_LIMITS, CallLimits, PluginCalls
from pvc_core.plugin_configuration import PluginConfigurations
from pvc_core.plugin_loading import ENTRY_TYPES, DriverEntry, FoundPlugin, PluginInfo, PluginLoader, installed_plugins
from pvc_core.plugin_names import Granted, active_info, grant, load_each, misplaced_sections
from pvc_core.plugin_threads import AskedThreads, PluginThreads
from pvc_core.plugin_types import (
    FilterEntry,
    HypervisorEntry,
    HypervisorSite,
    PluginOptions,
    RecoveryPolicyEntry,
    SelectorEntry,
    StoreEntry,
    VmProposal,
)
from pvc_core.ports import Clock, ClusterStore, Hypervisor
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.snapshot_copies import copy_for_plugins
from pvc_core.storage import StorageBackendEntry
from pvc_core.task_entries import NodeTaskEntry

__all__ = ["Objection", "PluginInfo", "Registry", "Validation"]

DISABLED_VARIABLE = "PVC_DISABLED_PLUGINS"
NO_SECTIONS: Mapping[str, object] = MappingProxyType({})

EntryT = TypeVar("EntryT", bound=DriverEntry)
OpenableT = TypeVar("OpenableT", StoreEntry, HypervisorEntry)
SiteT = TypeVar("SiteT")
OpenedT = TypeVar("OpenedT")


@dataclass(frozen=True)
class Objection:
    """A plugin's reason against a VM's definition or metadata."""

    plugin: str
    reason: str


@dataclass(frozen=True)
class Validation:
    """What all plugins say of a proposal: one objection refuses it. `failures`: plugins that had no say."""

    objections: tuple[Objection, ...]
    failures: tuple[PluginError, ...]

    @property
    def sentence(self) -> str:
        """All objections in one; "" when there is none."""
        return "; ".join(f"{objection.plugin}: {objection.reason}" for objection in self.objections)


class Registry:
    """The drivers by kind and name, and the plugins they came from. Immutable after loading; thread-safe."""

    selectors: Mapping[str, SelectorEntry]
    filters: Mapping[str, FilterEntry]
    recovery_policies: Mapping[str, RecoveryPolicyEntry]
    stores: Mapping[str, StoreEntry]
    hypervisors: Mapping[str, HypervisorEntry]
    storage_backends: Mapping[str, StorageBackendEntry]
    fence_agents: Mapping[str, FenceAgentEntry]
    networks: Mapping[str, NetworkEntry]
    node_tasks: Mapping[str, NodeTaskEntry]
    cli_commands: Mapping[str, CliCommand]
    api_resources: Mapping[str, ApiResource]
    configurations: PluginConfigurations
    """What is configured for those plugins that have options."""
    calls: PluginCalls
    """Through which every plugin is called."""
    plugins: tuple[PluginInfo, ...]
    problems: tuple[str, ...]
    """A sentence for each plugin, driver or setting that was refused."""

    def __init__(
        self,
        found: Iterable[FoundPlugin],
        blocked: Iterable[str] = (),
        problems: Iterable[str] = (),
        sections: Mapping[str, object] = NO_SECTIONS,
        *,
        clock: Clock | None = None,
        limits: CallLimits = DEFAULT_LIMITS,
        threads_of: Callable[[str], AskedThreads] = PluginThreads,
    ) -> None:
        """Load what was found, each on its own. `Registry.load` and `Registry.of` are the ways in.

        sections: what the configuration says to plugins, by their names. clock, limits and threads_of: of the calls to
        third parties' plugins.
        """
        found, refused_names, reported = tuple(found), frozenset(blocked), list(problems)
        own = {plugin.name for plugin in found if plugin.is_our_own and plugin.is_wanted(refused_names)}
        self.calls = PluginCalls(own, clock, limits, threads_of)
        loader = PluginLoader(self.calls, sections)
        loaded, refused = load_each(loader, found, refused_names)
        granted, refusals = grant(loaded)
        reported += misplaced_sections(sections, loaded, refused, refusals)
        self.configurations = PluginConfigurations(
            {plugin.found.name: plugin.configuration for plugin in loaded if plugin.configuration}
        )
        self.selectors = _by_name(granted, SelectorEntry)
        self.filters = _by_name(granted, FilterEntry)
        self.recovery_policies = _by_name(granted, RecoveryPolicyEntry)
        self.stores = _by_name(granted, StoreEntry)
        self.hypervisors = _by_name(granted, HypervisorEntry)
        self.storage_backends = _by_name(granted, StorageBackendEntry)
        self.fence_agents = _by_name(granted, FenceAgentEntry)
        self.networks = _by_name(granted, NetworkEntry)
        self.node_tasks = _by_name(granted, NodeTaskEntry)
        self.cli_commands = _by_name(granted, CliCommand)
        self.api_resources = _by_name(granted, ApiResource)
        active = [active_info(plugin, granted, refusals.get(plugin.found.name, ())) for plugin in loaded]
        self.plugins = tuple(sorted([*active, *refused], key=lambda info: (info.name, info.distribution)))
        reported += [f"plugin {info.name}: {info.error}" for info in self.plugins if info.error]
        self.problems = tuple(reported)
        self._manager = loader.manager

    @classmethod
    def load(
        cls,
        blocked: Iterable[str] = (),
        sections: Mapping[str, object] = NO_SECTIONS,
        disabled_env: str | None = None,
    ) -> Registry:
        """Every installed plugin, but those blocked by plugin or distribution name: never imported.

        sections: what this machine's configuration says to plugins, by their names.
        disabled_env: a comma-separated list of further ones; None reads the variable PVC_DISABLED_PLUGINS.
        """
        problems: list[str] = []
        found = tuple(installed_plugins(problems))
        listed = os.environ.get(DISABLED_VARIABLE, "") if disabled_env is None else disabled_env
        names = {*blocked, *(name.strip() for name in listed.split(","))} - {""}
        known = {plugin.name for plugin in found} | {plugin.distribution for plugin in found}
        problems += [f"{name} is to be blocked, but no plugin is called that" for name in sorted(names - known)]
        return cls(found, names, problems, sections)

    @classmethod
    def of(cls, *plugins: object, sections: Mapping[str, object] = NO_SECTIONS, **named: object) -> Registry:
        """Exactly these plugins (modules or objects), under their own names or the given ones: for tests.

        sections: as the configuration file would have them, such as `{"acme": {"weight": 2}}`.
        """
        found = [_given(getattr(plugin, "__name__", type(plugin).__name__), plugin) for plugin in plugins]
        return cls([*found, *(_given(name, plugin) for name, plugin in named.items())], sections=sections)

    @property
    def plugin_versions(self) -> dict[str, str]:
        """Active plugins with the versions of their distributions, as a daemon publishes them."""
        return {info.name: info.version for info in self.plugins if info.state == "active"}

    @property
    def plugins_refused(self) -> dict[str, str]:
        """Installed plugins that are not loaded, with the reason, as a daemon publishes them; empty: it is blocked."""
        return {info.name: info.error for info in self.plugins if info.state != "active"}

    @property
    def driver_names(self) -> dict[str, tuple[str, ...]]:
        """Kinds of drivers with the names one can choose, as a daemon publishes them."""
        return {kind: tuple(getattr(self, kind)) for kind in ENTRY_TYPES}

    def open_store(self, url: str) -> ClusterStore:
        """The store for this URL, not connected yet. Raises `InvalidInput`, or `PluginError` when its driver breaks."""
        entry = _for_url("store", self.stores, url)
        return self._opened(entry.plugin, entry.open, url)

    def open_hypervisor(self, site: HypervisorSite) -> Hypervisor:
        """The hypervisor for this site, not connected yet. Raises as `open_store`."""
        entry = _for_url("hypervisor", self.hypervisors, site.url)
        return self._opened(entry.plugin, entry.open, site)

    def _opened(self, plugin: str, opener: Callable[[SiteT], OpenedT], site: SiteT) -> OpenedT:
        """What the driver opens; a `PvcError` of its own passes, anything else becomes a `PluginError`."""

        def opened() -> OpenedT | PvcError:
            try:
                return opener(site)
            except PvcError as refusal:  # an answer, such as "this URL has no path", and no failure of the plugin
                return refusal

        answer = self.calls.ask(plugin, opened, deadline_s=self.calls.limits.open_s)
        if isinstance(answer, PvcError):
            raise answer
        return answer

    def options(self, plugin: str, settings: Settings) -> PluginOptions:
        """What is configured for a plugin, by its name, under these settings of the cluster."""
        return self.configurations.options(plugin, settings)

    def validate_vm(self, proposal: VmProposal, snapshot: ClusterSnapshot) -> Validation:
        """Ask every plugin's `pvc_validate_vm`."""
        objections: list[Objection] = []
        failures: list[PluginError] = []
        for implementation in self.implementations("pvc_validate_vm"):
            offered = {"proposal": proposal, "snapshot": copy_for_plugins(snapshot)}
            try:
                reasons = call_hook(self, implementation, offered, snapshot.settings, _reasons)
            except PluginError as failure:
                failures.append(failure)
            else:
                objections += [Objection(implementation.plugin, reason) for reason in reasons]
        return Validation(tuple(objections), tuple(failures))

    def implementations(self, hook: str) -> tuple[HookImplementation, ...]:
        """Every plugin's function for a hook, in the order in which they are called."""
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return tuple(HookImplementation(each.plugin_name, each.function, each.argnames) for each in found)


def _given(name: str, plugin: object) -> FoundPlugin:
    return FoundPlugin(name, lambda: plugin)


def _by_name(granted: Granted, kind: type[EntryT]) -> Mapping[str, EntryT]:
    """The entries of one kind, in the order of their names."""
    entries = {entry.name: entry for entry in granted.values() if isinstance(entry, kind)}
    return MappingProxyType(dict(sorted(entries.items())))


# ------------------------------------------------------------------------------------------------- opening


def _for_url(what: str, entries: Mapping[str, OpenableT], url: str) -> OpenableT:
    """The driver that the URL's scheme names; `qemu+tcp` is a way to reach `qemu`. Raises `InvalidInput`."""
    scheme = url.partition(":")[0] if ":" in url else ""
    schemes = {name: entry.schemes or (name,) for name, entry in entries.items()}
    for wanted in (scheme, scheme.partition("+")[0]):
        matching = [name for name in entries if wanted in schemes[name]]
        if len(matching) == 1:
            return entries[matching[0]]
        if matching:
            raise InvalidInput(what, f"several drivers claim the scheme: {', '.join(matching)}; block one", scheme)
    known = sorted({f"{known}:" for listed in schemes.values() for known in listed})
    # Never the whole URL: it may hold a password.
    raise InvalidInput(what, "no driver is loaded for this URL's scheme", scheme or "(none)", known)


def _reasons(answer: object) -> list[str]:
    """A validator's answer as a list of sentences."""
    if answer is None:
        return []
    if not isinstance(answer, Sequence) or isinstance(answer, str) or not all(isinstance(r, str) for r in answer):
        raise TypeError(f"pvc_validate_vm returned {answer!r} instead of a list of reasons")
    return [reason for reason in answer if reason]
