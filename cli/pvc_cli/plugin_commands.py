# SPDX-License-Identifier: Apache-2.0
"""plugin_commands: `pvc plugin`: what is installed, what it registers, and what became of it on which node."""

from __future__ import annotations

import click

from pvc_cli.output import Shown, emit, note
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table, facts_table
from pvc_cli.views import PluginView
from pvc_cli.words import NOTHING

MOOD_OF_STATE = {"active": "good", "blocked": "warning", "failed": "bad", "absent": "warning"}


@click.group()
def plugin() -> None:
    """Plugins, and the drivers that they register."""


@plugin.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """List the plugins, also those that were refused.

    NODES counts the living nodes that have it. `absent`: a node has it, this API does not.
    """
    document = session.api.get("plugin")
    plugins: list[PluginView] = document["plugins"]
    emit(session.output, document, lambda: _table(plugins), lambda: [plugin["name"] for plugin in plugins])
    for problem in document["problems"]:
        note(f"refused: {problem}")


@plugin.command()
@click.argument("name")
@output_option
@pass_session
def show(session: Session, name: str) -> None:
    """Show the plugin NAME.

    NAME may also be that of a driver, such as a selector: then the plugin that registers it is shown.
    """
    view: PluginView = session.api.get("plugin", name)
    emit(session.output, view, lambda: _shown(view), lambda: [view["name"]])


def _table(plugins: list[PluginView]) -> Table:
    table = Table(("name", "state", "version", "nodes", "drivers"), right=("nodes",), folding=("drivers",))
    for plugin in plugins:
        drivers = ", ".join(driver["name"] for driver in plugin["drivers"])
        table.add(
            plugin["name"],
            Cell(plugin["state"], MOOD_OF_STATE.get(plugin["state"], "")),
            plugin["version"] or NOTHING,
            str(len(plugin["nodes"])),
            plugin["error"] or drivers or NOTHING,
        )
    return table


def _shown(view: PluginView) -> Shown:
    facts = {
        "name": view["name"],
        "state": view["state"],
        "from": f"{view['distribution']} {view['version']}".strip(),
        "summary": view["summary"],
        "hooks": ", ".join(view["hooks"]),
        "problem": view["error"],
        "nodes": ", ".join(f"{node} {version}" for node, version in sorted(view["nodes"].items())),
    }
    parts: list[str | Table] = [facts_table({label: value for label, value in facts.items() if value})]
    if view["drivers"]:
        drivers = Table(("kind", "driver", "what it does"), folding=("what it does",))
        for driver in view["drivers"]:
            drivers.add(driver["kind"], driver["name"], driver["summary"])
        parts += ["", drivers]
    return parts
