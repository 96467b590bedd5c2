# SPDX-License-Identifier: Apache-2.0
"""rule_commands: `pvc cluster rule`: which VMs belong together, apart, or rather on certain nodes."""

from __future__ import annotations

import math

import click

from pvc_cli.definition_files import confirmed
from pvc_cli.metadata_options import names_in
from pvc_cli.output import emit, note
from pvc_cli.references import NodeReference, RuleMember, RuleReference
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table, facts_table
from pvc_cli.views import RuleOutcome, RuleView
from pvc_cli.words import NOTHING, listed
from pvc_core.errors import InvalidInput

KINDS = ("together", "apart", "prefer")


@click.group()
def rule() -> None:
    """Rules: which VMs belong together, apart or on certain nodes."""


@rule.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What the rule says of its members.")
@click.option(
    "--member",
    "members",
    metavar="MEMBER",
    multiple=True,
    required=True,
    type=RuleMember(),
    help="A VM, or tag:T for all that have the tag T; repeatable, or separated by commas.",
)
@click.option("--hard", is_flag=True, help="Never broken by a decision; without it the rule is a preference.")
@click.option(
    "--node",
    "weights",
    metavar="NODE=WEIGHT",
    multiple=True,
    type=NodeReference(),
    help="Of --kind prefer, how much a node is liked, -1000 to 1000; repeatable.  [default: none]",
)
@click.option("--replace", is_flag=True, help="Write over the rule of this name, if there is one.")
@output_option
@pass_session
def add(
    session: Session,
    name: str,
    kind: str,
    members: tuple[str, ...],
    hard: bool,
    weights: tuple[str, ...],
    replace: bool,
) -> None:
    """Add the rule NAME. One that is broken already is accepted, and shown as broken.

    For example: pvc cluster rule add web-apart --kind apart --member tag:web --hard
    """
    body = {"kind": kind, "members": names_in(members), "hard": hard, "nodes": dict(map(_weight, weights))}
    if replace:
        outcome: RuleOutcome = session.api.request("PUT", "cluster", "rule", name, body=body).document
    else:
        outcome = session.api.post("cluster", "rule", body={"name": name, **body}).document
    emit(session.output, outcome, lambda: outcome["reason"], lambda: [name])


@rule.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """List the rules: whom each is about, and whether it is kept."""
    document = session.api.get("cluster", "rule")
    rules: list[RuleView] = document["rules"]
    none = "no rules; add one with `pvc cluster rule add`"
    emit(session.output, document, lambda: _table(rules) if rules else none, lambda: [one["name"] for one in rules])
    for broken in document["broken"]:
        note(f"the record {broken['key']} does not parse: {broken['problem']}")


@rule.command()
@click.argument("name", type=RuleReference())
@output_option
@pass_session
def show(session: Session, name: str) -> None:
    """Show the rule NAME."""
    view: RuleView = session.api.get("cluster", "rule", name)
    emit(session.output, view, lambda: facts_table(_facts(view)), lambda: [name])


@rule.command()
@click.argument("name", type=RuleReference())
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
@pass_session
def remove(session: Session, name: str, yes: bool) -> None:
    """Remove the rule NAME. VMs stay where they are."""
    confirmed(f"Remove the rule {name}?", yes, "remove")
    document = session.api.request("DELETE", "cluster", "rule", name).document
    emit(session.output, document, lambda: str(document["reason"]), lambda: [name])


def _table(rules: list[RuleView]) -> Table:
    table = Table(("name", "kind", "hard", "members", "vms", "state", "note"), folding=("members", "vms", "note"))
    for one in rules:
        notes = [*one["problems"], *(f"no such VM: {name}" for name in one["missing"])]
        table.add(
            one["name"],
            one["kind"],
            "hard" if one["hard"] else "soft",
            listed(one["members"]),
            listed(one["vms"]),
            _state(one),
            Cell("; ".join(notes), "warning") if notes else _weights(one) or NOTHING,
        )
    return table


def _facts(view: RuleView) -> dict[str, str | Cell]:
    unusual = {"broken": "; ".join(view["problems"]), "no such VM": ", ".join(view["missing"])}
    return {
        "name": view["name"],
        "kind": view["kind"],
        "hard": "hard" if view["hard"] else "soft",
        "members": listed(view["members"]),
        "VMs": listed(view["vms"]),
        "nodes": _weights(view) or NOTHING,
        "state": _state(view),
        **{label: Cell(value, "warning") for label, value in unusual.items() if value},
    }


def _state(view: RuleView) -> Cell:
    return Cell(view["state"], "good" if view["state"] == "kept" else "bad" if view["hard"] else "warning")


def _weights(view: RuleView) -> str:
    return ", ".join(f"{node}={weight:g}" for node, weight in view["nodes"].items())


def _weight(text: str) -> tuple[str, float]:
    node, equals, weight = text.partition("=")
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not (node and equals) or not math.isfinite(number):
        raise InvalidInput("node", "must be given as NODE=WEIGHT, such as hv2=10", text)
    return node.strip(), number
