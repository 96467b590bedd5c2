# SPDX-License-Identifier: Apache-2.0
"""plugin_answers: what the API says of plugins: what they bring, what can be configured of them, how they fare."""

from __future__ import annotations

from typing import Literal

from pvc_api.views import Answer, SettingValue
from pvc_core.plugin_troubles import PluginTrouble


class DriverView(Answer, frozen=True, kw_only=True):
    """What a plugin registers: a driver that one can choose by name, such as a selector, or what it adds.

    `cli_commands` are called by their words after `pvc`, `api_resources` by their templates.
    """

    kind: str
    name: str
    summary: str


class PluginOnNode(Answer, frozen=True, kw_only=True):
    """A plugin on one living node. `error`: why it is not loaded there. `trouble`: what it did wrong there so far."""

    node: str
    state: Literal["active", "failed", "blocked", "absent"]
    version: str = ""
    error: str = ""
    trouble: PluginTrouble | None = None


class OptionView(Answer, frozen=True, kw_only=True):
    """What can be configured of a plugin: in a machine's configuration file, or as a setting of the cluster.

    name: as it is written there. values: what is acceptable, in words. value: of the cluster's, as it is now; a
    machine's is never shown, since it may be a password.
    """

    name: str
    kind: Literal["machine", "cluster"]
    values: str
    default: str
    meaning: str
    value: SettingValue = None


class PluginView(Answer, frozen=True, kw_only=True):
    """One plugin in the process that answers, and on the living nodes.

    error: why it, or one of its drivers, was refused here. trouble: what it did wrong in this process. skew: a
    sentence when the nodes have it in different versions, or only some have it.
    """

    name: str
    state: Literal["active", "blocked", "failed", "absent"]
    distribution: str = ""
    version: str = ""
    summary: str = ""
    hooks: tuple[str, ...] = ()
    drivers: tuple[DriverView, ...] = ()
    options: tuple[OptionView, ...] = ()
    error: str = ""
    trouble: PluginTrouble | None = None
    nodes: tuple[PluginOnNode, ...] = ()
    skew: str = ""


class PluginList(Answer, frozen=True, kw_only=True):
    """All plugins, and a sentence for each thing that was refused."""

    plugins: tuple[PluginView, ...]
    problems: tuple[str, ...]
