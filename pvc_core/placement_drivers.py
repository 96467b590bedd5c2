# SPDX-License-Identifier: Apache-2.0
"""placement_drivers: what a placement needs of a registry: filters and selectors, how to call them, their options.

A `Registry` is one; `GivenDrivers` is one made of a few entries, for tests and tools.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from pvc_core.model import Settings
from pvc_core.plugin_calls import DirectCalls, PluginCalls
from pvc_core.plugin_types import NO_OPTIONS, FilterEntry, PlacementRequest, PluginOptions, SelectorEntry


class PlacementDrivers(Protocol):
    """What placement needs of a registry."""

    @property
    def selectors(self) -> Mapping[str, SelectorEntry]: ...

    @property
    def filters(self) -> Mapping[str, FilterEntry]: ...

    @property
    def calls(self) -> PluginCalls:
        """Through which every plugin is called."""

    @property
    def options(self) -> Callable[[str, Settings], PluginOptions]:
        """What is configured for a plugin, by its name, under these settings of the cluster."""


def no_options(plugin: str, settings: Settings) -> PluginOptions:
    """Of plugins that nothing is configured for."""
    return NO_OPTIONS


@dataclass(frozen=True)
class GivenDrivers:
    """Exactly these drivers, called directly unless `calls` says otherwise."""

    selectors: Mapping[str, SelectorEntry] = field(default_factory=dict)
    filters: Mapping[str, FilterEntry] = field(default_factory=dict)
    calls: PluginCalls = field(default_factory=DirectCalls)
    options: Callable[[str, Settings], PluginOptions] = no_options


def request_for(
    plugin: str, request: PlacementRequest, drivers: PlacementDrivers, settings: Settings
) -> PlacementRequest:
    """The request as this plugin sees it: with its own options and nobody else's."""
    options = drivers.options(plugin, settings)
    return request if options is NO_OPTIONS else replace(request, options=options)
