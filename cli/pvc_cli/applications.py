# SPDX-License-Identifier: Apache-2.0
"""applications: PVC's other applications, which `pvc` runs in its own process and never imports by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from pvc_core.errors import PluginError

GROUP = "pvc.applications"


def load_application(name: str) -> Any:
    """What the entry point stands for. Raises `PluginError` when it is not there once, or cannot be imported."""
    found = list(entry_points(group=GROUP, name=name))
    if len(found) != 1:
        raise PluginError(GROUP, f"{len(found)} distributions provide the application `{name}`, not one")
    try:
        return found[0].load()
    except ImportError as error:
        raise PluginError(GROUP, f"the application `{name}` cannot be loaded: {error}") from error
