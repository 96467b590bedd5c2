# SPDX-License-Identifier: Apache-2.0
"""driver_suite: what the suites of all kinds of drivers share: the driver is the one registered by its name.

A rule is a method `test_...` that takes nothing, so that a suite runs under pytest and can be asked rule by rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Generic, TypeVar

from pvc_core.hookspecs import hookimpl
from pvc_core.model import Settings
from pvc_core.plugin_loading import ENTRY_TYPES, DriverEntry, FoundPlugin, installed_plugins
from pvc_core.plugin_types import PlacementRequest, PluginOptions
from pvc_core.registry import NO_SECTIONS, Registry

EntryT = TypeVar("EntryT", bound=DriverEntry)

_KINDS = tuple(ENTRY_TYPES.items())


@lru_cache(maxsize=1)
def installed() -> Registry:
    """Every plugin of this environment, loaded once."""
    return Registry.load()


def registry_of(*entries: DriverEntry, plugin: str = "given") -> Registry:
    """A registry of exactly these drivers, as if a plugin called `plugin` registered them."""
    by_kind = {kind: [entry for entry in entries if type(entry) is entry_type] for kind, entry_type in _KINDS}
    hooks = {f"pvc_{kind}": _registering(found) for kind, found in by_kind.items() if found}
    return Registry([FoundPlugin(plugin, _always(SimpleNamespace(**hooks)))])


def registry_with(*, sections: Mapping[str, object] = NO_SECTIONS, **plugins: object) -> Registry:
    """The installed plugins and further ones (modules or objects) under the given names, for plugins in the making.

    sections: as the configuration file would have them, such as `{"acme": {"port": 81}}`.
    """
    given = [FoundPlugin(name, _always(found)) for name, found in plugins.items()]
    return Registry([*installed_plugins([]), *given], sections=sections)


def _always(found: object) -> Callable[[], object]:
    return lambda: found


def _registering(found: Sequence[DriverEntry]) -> Callable[[], Sequence[DriverEntry]]:
    marked: Callable[[], Sequence[DriverEntry]] = hookimpl(lambda: found)
    return marked


class DriverSuite(Generic[EntryT]):
    """The rules for every driver that is chosen by name. A subclass has a `name`."""

    name: str
    kind: str
    """As in the name of the registration hook: "selectors", "filters" ..."""

    def registry(self) -> Registry:
        """Where the driver is registered: by the installed plugins, unless this is overridden."""
        return installed()

    def entry(self) -> EntryT:
        """The driver's entry."""
        registry = self.registry()
        found: dict[str, EntryT] = dict(getattr(registry, self.kind))
        assert self.name in found, f"{self.name} is not among the {self.kind}; problems: {registry.problems}"
        return found[self.name]

    def settings(self) -> Settings:
        """The cluster's settings, with what is configured for the plugin: the defaults unless this is overridden."""
        return Settings()

    def options(self) -> PluginOptions:
        """What is configured for the plugin under these settings."""
        return self.registry().options(self.entry().plugin, self.settings())

    def with_options(self, request: PlacementRequest) -> PlacementRequest:
        """The request as the plugin gets it."""
        return replace(request, options=self.options())

    def test_its_summary_is_one_line(self) -> None:
        summary = self.entry().summary
        assert summary, f"{self.name} has no summary"
        assert "\n" not in summary, f"the summary of {self.name} has several lines"
