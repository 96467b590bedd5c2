# SPDX-License-Identifier: Apache-2.0
"""cluster_commands: `pvc cluster`: the cluster at a glance, its settings; further commands are imported when named."""

from __future__ import annotations

import math
from typing import Any

import click

from pvc_cli.lazy import LazyGroup
from pvc_cli.output import Shown, emit, warn
from pvc_cli.references import SettingAssignment, SettingReference, flat_settings
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table, facts_table
from pvc_cli.views import ClusterStatus, SettingsOutcome, SettingsView
from pvc_cli.words import memory, typed, until
from pvc_core.errors import InvalidInput

COMMANDS = {
    "balance": "pvc_cli.cluster_plan:balance",
    "apply": "pvc_cli.cluster_plan:apply",
    "plan": "pvc_cli.cluster_plan:plan",
    "capacity": "pvc_cli.cluster_capacity:capacity",
    "notify-test": "pvc_cli.cluster_notify:notify_test",
    "maintenance": "pvc_cli.maintenance_commands:cluster_maintenance",
    "rule": "pvc_cli.rule_commands:rule",
    "snapshot": "pvc_cli.cluster_capacity:snapshot",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def cluster() -> None:
    """The cluster as a whole."""


@cluster.command()
@output_option
@pass_session
def status(session: Session) -> None:
    """Show the cluster at a glance, and what to act on."""
    view: ClusterStatus = session.api.get("cluster")
    emit(session.output, view, lambda: _status(view), lambda: view["problems"])


@cluster.command()
@click.argument("assignments", metavar="[NAME=VALUE]...", nargs=-1, type=SettingAssignment())
@click.option(
    "--reset",
    "resets",
    metavar="NAME",
    multiple=True,
    type=SettingReference(),
    help="Take a setting back to its default; repeat it for several.  [default: none]",
)
@output_option
@pass_session
def settings(session: Session, assignments: tuple[str, ...], resets: tuple[str, ...]) -> None:
    """Show the settings, or change those that are given.

    For example: pvc cluster settings default_selector=mem:2,load:1 max_parallel_migrations=4

    Settings of plugins are called by the plugin and the setting: acme.weight=2
    """
    view: SettingsView = session.api.get("cluster", "settings")
    present = flat_settings(view["settings"])
    patch: dict[str, Any] = {name: _typed(value, present.get(name)) for name, value in map(_assignment, assignments)}
    for name in resets:
        if name in patch:
            raise InvalidInput("settings", "is given and reset at once", name)
        patch[name] = None
    if not patch:
        emit(session.output, view["settings"], lambda: _settings_table(present), lambda: present)
        return
    outcome: SettingsOutcome = session.api.post("cluster", "settings", body=_nested(patch)).document
    after = flat_settings(outcome["settings"])
    changed = {name: after[name] for name in patch if name in after}
    emit(session.output, outcome, lambda: f"{outcome['reason']}\n{_assigned(changed)}", lambda: changed)
    warn(outcome.get("warnings", ()))


def _status(view: ClusterStatus) -> Shown:
    facts = facts_table(
        {
            "version": view["version"],
            "store": view["store"],
            "leader": view["leader"] or Cell("none", "bad"),
            "nodes": _counts(view["nodes"]),
            "daemons": _counts(view["liveness"]),
            "VMs": _counts(view["vms"]),
            "memory": f"{memory(view['memory_reserved_mib'])} reserved of {memory(view['memory_total_mib'])}",
            "vcpus": f"{view['vcpus_reserved']} for VMs on {view['cores']} cores",
            **({"maintenance": Cell(until(view["pause"]), "warning")} if view["pause"] else {}),
        }
    )
    if not view["problems"]:
        return [facts, "", "nothing to act on"]
    return [facts, "", "to act on:", *(f"  {problem}" for problem in view["problems"])]


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(numbers.items())) or "none"


def _settings_table(values: dict[str, Any]) -> Table:
    table = Table(("setting", "value"), folding=("value",))
    for name, value in values.items():
        table.add(name, typed(value))
    return table


def _assigned(values: dict[str, Any]) -> str:
    return "\n".join(f"{name}={typed(value)}" for name, value in values.items())


def _nested(patch: dict[str, Any]) -> dict[str, Any]:
    """As the API takes them: those of plugins by plugin and name. A plugin's name may hold dots, a setting's not."""
    body: dict[str, Any] = {}
    for name, value in patch.items():
        plugin, _, setting = name.rpartition(".")
        if plugin:
            body.setdefault("plugins", {}).setdefault(plugin, {})[setting] = value
        else:
            body[name] = value
    return body


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidInput("settings", "must be given as NAME=VALUE", text)
    return name.strip(), value.strip()


def _typed(value: str, present: object) -> object:
    """The value as the kind of thing the setting is now; the API explains what is wrong with any other text."""
    if isinstance(present, bool):
        return {"true": True, "yes": True, "false": False, "no": False}.get(value.lower(), value)
    if isinstance(present, list):
        return [item.strip() for item in value.split(",") if item.strip()]
    for kind in (int, float):
        if isinstance(present, int | float):
            try:
                number = kind(value)
            except ValueError:
                continue
            if not math.isfinite(number):
                raise InvalidInput("settings", "must be a finite number", value)
            return number
    return value
