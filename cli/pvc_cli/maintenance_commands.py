# SPDX-License-Identifier: Apache-2.0
"""maintenance_commands: planned pauses, of the cluster and of a node: what is lost meanwhile is not fenced."""

from __future__ import annotations

from typing import Any

import click

from pvc_cli.durations import Duration, about
from pvc_cli.output import emit
from pvc_cli.references import node_argument
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.views import MaintenanceOutcome, MaintenanceView, NodeView
from pvc_cli.words import until
from pvc_core.errors import InvalidInput

_SWITCH = click.argument(
    "switch", metavar="[on|off|status]", type=click.Choice(["on", "off", "status"]), default="status"
)
_REASON = click.option(
    "--reason", metavar="TEXT", default="", show_default=False, help="Why, for everybody who asks.  [default: none]"
)


@click.command()
@_SWITCH
@click.option(
    "--for",
    "for_s",
    metavar="DURATION",
    type=Duration(),
    help="When it ends by itself, in s, m, h or d, at most 7d.  [default: 4h]",
)
@_REASON
@output_option
@pass_session
def cluster_maintenance(session: Session, switch: str, for_s: int | None, reason: str) -> None:
    """Pause fencing and recovery while you work on the cluster.

    While it is on, no node is fenced, no VM is recovered and no node taken back by itself, whatever becomes of daemons,
    the network or the store; VMs run on. Commands still work. It ends with `off` or at its deadline; what is lost by
    then is dealt with from that moment on. `on` while it is on sets a new deadline. Without an argument it is shown.
    """
    _check(switch, for_s, reason)
    if switch == "status":
        view: MaintenanceView = session.api.get("cluster", "maintenance")
        emit(session.output, view, lambda: _shown(view), lambda: ["on" if view["pause"] else "off"])
        return
    body = {"on": switch == "on", "reason": reason, **({"for_s": for_s} if for_s else {})}
    outcome: MaintenanceOutcome = session.api.post("cluster", "maintenance", body=body).document
    emit(session.output, outcome, lambda: outcome["reason"], lambda: ["on" if outcome["pause"] else "off"])


@click.command()
@node_argument
@_SWITCH
@click.option(
    "--for",
    "for_s",
    metavar="DURATION",
    type=Duration(),
    help="When it ends by itself, in s, m, h or d, at most 7d.  [default: never]",
)
@_REASON
@output_option
@pass_session
def node_maintenance(session: Session, node: str, switch: str, for_s: int | None, reason: str) -> None:
    """Keep NODE from being fenced, and from getting VMs.

    Its running VMs are left alone; `pvc node flush NODE` moves them away. It is not taken back into service before that
    has ended. If it is lost by then, it is dealt with from that moment on. Without on or off it is shown.
    """
    _check(switch, for_s, reason)
    if switch == "status":
        view: NodeView = session.api.get("node", node)
        emit(session.output, view, lambda: _node_shown(view), lambda: ["on" if view["maintenance"] else "off"])
        return
    body = {"on": switch == "on", "reason": reason, **({"for_s": for_s} if for_s else {})}
    outcome: dict[str, Any] = session.api.post("node", node, "maintenance", body=body).document
    emit(session.output, outcome, lambda: outcome["reason"], lambda: [node])


def _check(switch: str, for_s: int | None, reason: str) -> None:
    if switch != "on" and (for_s is not None or reason):
        raise InvalidInput("maintenance", "--for and --reason go with `on`", switch)
    if for_s == 0:
        raise InvalidInput("for", "must be more than nothing", "0")


def _shown(view: MaintenanceView) -> str:
    """With how long it still lasts, as far as that was written: the leader does so every minute."""
    pause = view["pause"]
    if pause is None or pause["left_s"] is None:
        return view["sentence"]
    return f"{view['sentence']}; about {about(pause['left_s'])} left"


def _node_shown(view: NodeView) -> str:
    if not view["maintenance"]:
        return f"{view['name']} is not in maintenance"
    terms = f" {until(view['pause'])}" if view["pause"] else ""
    return f"{view['name']} is in maintenance{terms}"
