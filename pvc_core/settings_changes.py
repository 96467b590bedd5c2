# SPDX-License-Identifier: Apache-2.0
"""settings_changes: what a change makes of the cluster's settings, or why it is refused, and what would be accepted.

A patch is a mapping of names to values, those of plugins one level deeper: {"plugins": {"acme": {"weight": 2}}}.
None takes a setting back to its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pvc_core.errors import InvalidInput
from pvc_core.model import NOT_SETTINGS, Settings
from pvc_core.registry import Registry
from pvc_core.selector_expression import check_selector
from pvc_core.strict_reading import read_strictly, unknown_key

SETTING_NAMES = tuple(name for name in Settings.__struct_fields__ if name not in NOT_SETTINGS)
"""PVC's own settings."""


def checked_patch(patch: Mapping[str, object], registry: Registry) -> dict[str, Any]:
    """The patch with every value as it is kept. Raises `InvalidInput` naming the setting that cannot be so."""
    defaults = Settings()
    kinds = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    checked: dict[str, Any] = {}
    for name, value in patch.items():
        if name == "plugins":
            checked[name] = _by_plugin(value)
        elif name not in SETTING_NAMES:
            raise unknown_key(name, name, SETTING_NAMES, "is not a setting")
        elif value is None:
            checked[name] = getattr(defaults, name)
        else:
            checked[name] = read_strictly(value, kinds[name], name, literally=False)
    if patch.get("default_selector") is not None:
        checked["default_selector"] = check_selector(
            checked["default_selector"], registry.selectors, "default_selector"
        )
    return checked


def _by_plugin(value: object) -> dict[str, Mapping[str, object]]:
    if not isinstance(value, Mapping) or not all(isinstance(values, Mapping) for values in value.values()):
        raise InvalidInput("plugins", "must hold the settings to change, by plugin and name")
    return dict(value)


def changed_settings(settings: Settings, patch: Mapping[str, Any], registry: Registry) -> Settings:
    """The settings with a checked patch. Raises `InvalidInput` for what makes no sense together."""
    plugins = registry.configurations.changed(settings, patch.get("plugins", {}))
    wanted = msgspec.structs.replace(settings, **{**patch, "plugins": plugins})
    if wanted.report_stale_s < 2 * wanted.report_interval_s:
        problem = f"must be at least twice report_interval_s ({wanted.report_interval_s:g}), or every node looks dead"
        raise InvalidInput("report_stale_s", problem, f"{wanted.report_stale_s:g}")
    return wanted


def what_changes(before: Settings, after: Settings) -> str:
    """Which settings become what, as a sentence; of a plugin's own only whose they are, since they may be secret."""
    parts = [
        f"{name}: {getattr(before, name)} -> {getattr(after, name)}"
        for name in SETTING_NAMES
        if getattr(before, name) != getattr(after, name)
    ]
    plugins = {*before.plugins, *after.plugins}
    parts += [
        f"those of plugin {plugin}"
        for plugin in sorted(plugins)
        if before.plugins.get(plugin) != after.plugins.get(plugin)
    ]
    return f"settings changed: {', '.join(parts)}"


def all_settings(settings: Settings, registry: Registry) -> dict[str, Any]:
    """Every setting by name as JSON has it, those of plugins under "plugins", defaults included."""
    values = {name: getattr(settings, name) for name in SETTING_NAMES}
    return {**msgspec.to_builtins(values), "plugins": registry.configurations.values(settings)}
