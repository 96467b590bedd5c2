# SPDX-License-Identifier: Apache-2.0
"""event_commands: `pvc events`: what has happened in the cluster, who caused it and why, and what happens now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import click

from pvc_cli.exit_codes import UNAVAILABLE
from pvc_cli.output import Output, emit, emit_one, note
from pvc_cli.problems import exit_code_of
from pvc_cli.references import NodeReference
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table
from pvc_cli.views import EventView
from pvc_cli.words import NOTHING
from pvc_core.errors import PvcError

COLUMNS = ("at", "kind", "what", "by", "reason")
BAD = frozenset({"vm_failed", "vm_start_failed", "plugin_failed"})
WARNING = frozenset({"vm_ended", "vm_held", "vm_stayed", "vm_migration_failed", "node_left"})
REMEMBERED = 10_000
CLOCKS_DIFFER_MS = 60_000
"""By how much the clocks of a cluster's hosts may differ without an event being missed on the way."""
WIDTHS = (20, 22, 24, 16)
"""Of the columns but the last while following, where nobody knows what is still to come."""


@click.command()
@click.option(
    "--vm", metavar="VM", default="", show_default=False, help="Only those of this VM, by name or UUID.  [default: all]"
)
@click.option(
    "--node",
    metavar="NODE",
    default="",
    show_default=False,
    type=NodeReference(),
    help="Only those where this node was, or was the target.  [default: all]",
)
@click.option(
    "--kind",
    metavar="KIND",
    default="",
    show_default=False,
    help="Only those of this kind, such as vm_held.  [default: all]",
)
@click.option("-n", "--limit", metavar="N", type=click.IntRange(0, 10_000), default=20, help="The last N events.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new ones as they happen, until Ctrl-C.")
@output_option
@pass_session
def events(session: Session, vm: str, node: str, kind: str, limit: int, follow: bool) -> None:
    """Show what has happened in the cluster, newest last.

    Every change and every decision has an event: what it was about, who caused it, and why; with -o json also how a
    place was chosen. With --follow, -o json prints one event a line.
    """
    parameters = {name: value for name, value in (("vm", vm), ("node", node), ("kind", kind)) if value}
    if follow:
        _follow(session, parameters, limit)
        return
    document = session.api.request("GET", "events", parameters={**parameters, "limit": str(limit)}).document
    listed: list[EventView] = document["events"]
    emit(session.output, document, lambda: _table(listed), lambda: [event["id"] for event in listed])
    for broken in document["broken"]:
        note(f"broken: {broken['key']}: {broken['problem']}")


def _table(events: list[EventView]) -> Table:
    table = Table(COLUMNS, folding=("reason",))
    for event in events:
        table.add(*_cells(event))
    return table


def _cells(event: EventView) -> tuple[Cell, ...]:
    mood = "bad" if event["kind"] in BAD else "warning" if event["kind"] in WARNING else ""
    return (
        Cell(event["at"]),
        Cell(event["kind"], mood),
        Cell(_what(event)),
        Cell(event["by"] or NOTHING),
        Cell(" ".join(event["reason"].split())),
    )


def _what(event: EventView) -> str:
    """The VM and where it is and goes to, the node, or the plugin."""
    place = f"{event['node']} -> {event['target']}" if event["target"] else event["node"]
    if event["vm"]:
        return f"{event['vm']} ({place})" if place else event["vm"]
    return place or event["plugin"] or NOTHING


# ---------------------------------------------------------------------------------------------------- following


def _follow(session: Session, parameters: Mapping[str, str], limit: int) -> None:
    for event in _stream(session, parameters, limit):
        if session.output is Output.TABLE:
            click.echo(_line(event))
        else:
            emit_one(session.output, event, event["id"])


def _stream(session: Session, parameters: Mapping[str, str], limit: int) -> Iterator[EventView]:
    """Events without end: an API that is away for a moment, or ends, is asked again for what came after."""
    seen: set[str] = set()
    was_there = False
    while True:
        asked = {**parameters, **({"since": _before(max(seen))} if seen else {"limit": str(limit)})}
        try:
            for event in session.api.follow("events", parameters=asked):
                if event["id"] not in seen:
                    seen.add(event["id"])
                    yield event
                if len(seen) > REMEMBERED:
                    seen = _recent(seen)
            was_there = True
        except PvcError as error:
            if exit_code_of(error) != UNAVAILABLE or not (was_there or seen):
                raise
            note(f"{error.sentence()}; asking again")
        time.sleep(session.poll_s)


def _recent(seen: set[str]) -> set[str]:
    """Those of which it is still to be known that they were shown."""
    start = _before(max(seen))
    return {identity for identity in seen if identity > start}


def _before(identity: str) -> str:
    """Where to go on after this event: a host whose clock is behind may have written an older id since."""
    ms = identity.partition("-")[0]
    return f"{max(0, int(ms) - CLOCKS_DIFFER_MS):013d}" if ms.isdecimal() else identity


def _line(event: EventView) -> str:
    *cells, reason = _cells(event)
    return "  ".join([*(f"{cell.text:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)), reason.text])
