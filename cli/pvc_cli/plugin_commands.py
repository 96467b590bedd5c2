# SPDX-License-Identifier: Apache-2.0
"""plugin_commands: `pvc plugin`: what is installed, what it registers, and what became of it on which node."""

from __future__ import annotations

from collections.abc import Iterator

import click

from pvc_cli.contributed import refusals
from pvc_cli.lazy import LazyGroup
from pvc_cli.output import Shown, emit, note, warn
from pvc_cli.plugin_new import new
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table, facts_table
from pvc_cli.views import OptionView, PluginOnNode, PluginTrouble, PluginView
from pvc_cli.words import NOTHING, counted, typed

MOOD_OF_STATE = {
    "active": "good",
    "on trial": "warning",
    "left out": "bad",
    "blocked": "warning",
    "failed": "bad",
    "absent": "warning",
}
WORD_OF_CIRCUIT = {"closed": "active", "half-open": "on trial", "open": "left out"}


@click.group(cls=LazyGroup)
def plugin() -> None:
    """Plugins, and the drivers that they register."""


plugin.add_command(new)


@plugin.command("list")
@click.option("--cluster", "whole_cluster", is_flag=True, help="What every node has, instead of what is here.")
@output_option
@pass_session
def list_(session: Session, whole_cluster: bool) -> None:
    """List the plugins, also those that were refused.

    NODES counts the living nodes that have it, STRIKES its failures in a row, where it has most. `left out`: it failed
    three times in a row and is not asked for a while; `on trial`: the next call decides. `absent`: a node has it, this
    API does not.
    """
    document = session.api.get("plugin")
    plugins: list[PluginView] = document["plugins"]
    table = _table_of_nodes if whole_cluster else _table
    emit(session.output, document, lambda: table(plugins), lambda: [plugin["name"] for plugin in plugins])
    for problem in document["problems"]:
        note(f"refused: {problem}")
    context = click.get_current_context()
    root = context.find_root().command
    for problem in refusals(root, context) if isinstance(root, click.Group) else ():
        note(f"refused: {problem}")
    for view in plugins:
        warn(_warnings(view))


@plugin.command()
@click.argument("name")
@output_option
@pass_session
def show(session: Session, name: str) -> None:
    """Show the plugin NAME: its drivers, its failures, its nodes.

    NAME may also be that of a driver, such as a selector: then the plugin that registers it is shown.
    """
    view: PluginView = session.api.get("plugin", name)
    emit(session.output, view, lambda: _shown(view), lambda: [view["name"]])
    warn(_warnings(view))


def _warnings(view: PluginView) -> Iterator[str]:
    """What an operator should know of a plugin besides that it was refused here."""
    for node in view["nodes"]:
        trouble = node["trouble"]
        if trouble and trouble["circuit"] != "closed":
            yield f"{node['node']} leaves out {view['name']}: {trouble['last_error']}"
        if node["state"] == "failed":
            yield f"{view['name']} is not loaded on {node['node']}: {node['error']}"
    if view["skew"]:
        yield f"{view['name']} is not the same everywhere: {view['skew']}"


def _state(state: str, trouble: PluginTrouble | None) -> Cell:
    """A plugin's state, in which one that is loaded but not asked is left out."""
    word = WORD_OF_CIRCUIT.get(trouble["circuit"], state) if trouble and state == "active" else state
    return Cell(word, MOOD_OF_STATE.get(word, ""))


def _strikes(view: PluginView) -> int:
    """Failures in a row, of the process where they are most."""
    troubles = [view["trouble"], *(node["trouble"] for node in view["nodes"])]
    return max((trouble["strikes"] for trouble in troubles if trouble), default=0)


def _table(plugins: list[PluginView]) -> Table:
    columns = ("name", "state", "from", "version", "nodes", "strikes", "drivers")
    table = Table(columns, right=("nodes", "strikes"), folding=("drivers",))
    for plugin in plugins:
        drivers = ", ".join(driver["name"] for driver in plugin["drivers"])
        table.add(
            plugin["name"],
            _state(plugin["state"], plugin["trouble"]),
            plugin["distribution"] or NOTHING,
            plugin["version"] or NOTHING,
            str(sum(1 for node in plugin["nodes"] if node["state"] == "active")),
            str(_strikes(plugin)),
            plugin["error"] or drivers or NOTHING,
        )
    return table


def _table_of_nodes(plugins: list[PluginView]) -> Table:
    """A row for each version and state of a plugin, with the nodes that have it like that."""
    table = Table(("name", "version", "state", "strikes", "nodes"), right=("strikes",), folding=("nodes",))
    for plugin in plugins:
        for (version, state, strikes), nodes in _alike(plugin["nodes"]).items():
            table.add(plugin["name"], version, Cell(state, MOOD_OF_STATE.get(state, "")), strikes, ", ".join(nodes))
    return table


def _alike(nodes: list[PluginOnNode]) -> dict[tuple[str, str, str], list[str]]:
    """Node names by the version they have of a plugin, its state there, and its strikes."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for node in nodes:
        trouble = node["trouble"]
        state = _state(node["state"], trouble).text
        key = (node["version"] or NOTHING, state, str(trouble["strikes"] if trouble else 0))
        found.setdefault(key, []).append(node["node"])
    return found


def _shown(view: PluginView) -> Shown:
    trouble = view["trouble"]
    facts: dict[str, str | Cell] = {
        "name": view["name"],
        "state": _state(view["state"], trouble),
        "from": f"{view['distribution']} {view['version']}".strip(),
        "summary": view["summary"],
        "hooks": ", ".join(view["hooks"]),
        "problem": view["error"],
        "last error": f"{trouble['last_error']} ({trouble['last_error_at']})" if trouble else "",
        "failures": _failures(trouble) if trouble else "",
    }
    parts: list[str | Table] = [facts_table({label: fact for label, fact in facts.items() if fact})]
    if view["drivers"]:
        drivers = Table(("kind", "driver", "what it does"), folding=("what it does",))
        for driver in view["drivers"]:
            drivers.add(driver["kind"], driver["name"], driver["summary"])
        parts += ["", drivers]
    if view.get("options"):
        parts += ["", _table_of_options(view["options"])]
    if view["nodes"]:
        parts += ["", _table_of_nodes([view])]
    return parts


def _table_of_options(options: list[OptionView]) -> Table:
    table = Table(("option", "in", "now", "default", "values", "meaning"), folding=("values", "meaning"))
    for option in options:
        now = typed(option["value"]) if option["kind"] == "cluster" else NOTHING
        where = "settings" if option["kind"] == "cluster" else "pvc.toml"
        table.add(option["name"], where, now, option["default"], option["values"], option["meaning"])
    return table


def _failures(trouble: PluginTrouble) -> str:
    """How often it failed where the API runs."""
    parts = [f"{trouble['failures']} here", f"{counted(trouble['strikes'], 'strike')} in a row"]
    if trouble["hanging"]:
        parts.append(f"{counted(trouble['hanging'], 'call')} hanging")
    return ", ".join(parts)
