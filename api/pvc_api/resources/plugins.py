# SPDX-License-Identifier: Apache-2.0
"""plugins: /plugin and /plugin/{name}: what is installed here, what became of it, and which nodes have it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import falcon

from pvc_api.documentation import documented
from pvc_api.plugin_answers import PluginList, PluginView
from pvc_api.plugin_views import plugin_named, plugins_of
from pvc_api.services import Services


class PluginCollection:
    """All plugins. `refusals`: by plugin, why resources of it are not served."""

    def __init__(self, services: Services, refusals: Mapping[str, Sequence[str]]) -> None:
        self._refusals = refusals
        self._registry = services.registry
        self._view = services.view

    @documented("Plugins", "viewer", {200: PluginList})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List plugins, also those that were refused and those that only nodes have."""
        snapshot = self._view.snapshot()
        problems = (*self._registry.problems, *self._registry.configurations.problems(snapshot.settings))
        refused = (f"plugin {plugin}: {'; '.join(sentences)}" for plugin, sentences in self._refusals.items())
        plugins = plugins_of(self._registry, snapshot, self._refusals)
        resp.media = PluginList(plugins=plugins, problems=(*problems, *refused))


class Plugin:
    """One plugin. `refusals` as above."""

    def __init__(self, services: Services, refusals: Mapping[str, Sequence[str]]) -> None:
        self._refusals = refusals
        self._registry = services.registry
        self._view = services.view

    @documented("Plugins", "viewer", {200: PluginView}, problems=(404,))
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Show a plugin, by its own name or by that of a driver it registers."""
        resp.media = plugin_named(name, plugins_of(self._registry, self._view.snapshot(), self._refusals))
