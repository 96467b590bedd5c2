# SPDX-License-Identifier: Apache-2.0
"""node_fence_devices: `pvc node fence-device` and `fence-test`: what can switch a node off, and whether it answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from pvc_cli.definition_files import confirmed
from pvc_cli.exit_codes import DONE, FAILED
from pvc_cli.fence_views import CheckedDeviceView, FenceAgentView, FenceDeviceView
from pvc_cli.output import emit, note
from pvc_cli.references import node_argument
from pvc_cli.secret_values import given
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table
from pvc_cli.words import NOTHING

TEST_S = 600.0
"""How long a test may take: an agent has up to ten minutes, most have one."""
MOOD_OF_POWER = {"on": "good", "off": "warning", "unknown": "bad"}


@click.group("fence-device")
def fence_device() -> None:
    """Fence devices: what can switch a node off when it is lost."""


@fence_device.command()
@node_argument
@click.argument("agent")
@click.option(
    "-p",
    "--param",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    help="A parameter of AGENT; NAME=@FILE reads it from a file, NAME=@- from stdin; repeatable.  [default: none]",
)
@click.option(
    "--secret",
    "secrets",
    metavar="NAME",
    multiple=True,
    help="A parameter whose value is asked for at the terminal, unseen; repeatable.  [default: none]",
)
@click.option(
    "--level",
    type=click.IntRange(1, 9),
    default=1,
    help="Lower levels are tried first; all devices of one must confirm.",
)
@output_option
@pass_session
def add(
    session: Session, node: str, agent: str, parameters: tuple[str, ...], secrets: tuple[str, ...], level: int
) -> None:
    """Add a device that can switch NODE off, driven by AGENT.

    A secret never stands on the command line: --secret NAME asks for it, NAME=@FILE and NAME=@- read it.

    For example: pvc node fence-device add hv1 fence-agents -p agent=fence_ipmilan -p ip=10.0.0.11 -p lanplus=1
    -p username=fencing --secret password
    """
    from pvc_core.fence_secrets import sounds_secret

    found = given(parameters, secrets)
    found.refuse_plain(sounds_secret)
    agents: list[FenceAgentView] = session.api.get("node", node, "fence-device")["agents"]
    known = {name for one in agents if one["name"] == agent for name in one["secrets"]}
    found.refuse_plain(known.__contains__)
    body = {"agent": agent, "parameters": found.values(f"the device of {node}"), "level": level}
    document: dict[str, Any] = session.api.post("node", node, "fence-device", body=body).document
    emit(session.output, document, lambda: document["reason"], lambda: [str(document["number"])])
    note(f"whether it answers is told by: pvc node fence-test {node}")


@fence_device.command("list")
@node_argument
@output_option
@pass_session
def list_(session: Session, node: str) -> None:
    """List the devices that can switch NODE off; secrets are masked."""
    document = session.api.get("node", node, "fence-device")
    devices: list[FenceDeviceView] = document["devices"]
    none = f"{node} has no fence device; add one with `pvc node fence-device add`"
    emit(
        session.output,
        document,
        lambda: _devices(devices) if devices else none,
        lambda: [str(one["number"]) for one in devices],
    )
    for broken in document["broken"]:
        note(
            f"the record {broken['key']} does not parse: {broken['problem']}; "
            f"`pvc node fence-device clear {node}` replaces it"
        )


@fence_device.command()
@node_argument
@click.argument("number", type=click.IntRange(min=1))
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
@pass_session
def remove(session: Session, node: str, number: int, yes: bool) -> None:
    """Remove device NUMBER of NODE."""
    confirmed(f"Remove fence device {number} of {node}?", yes, "remove")
    document = session.api.request("DELETE", "node", node, "fence-device", str(number)).document
    emit(session.output, document, lambda: str(document["reason"]), lambda: [node])


@fence_device.command()
@node_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
@pass_session
def clear(session: Session, node: str, yes: bool) -> None:
    """Remove all devices of NODE, also a broken record of them."""
    confirmed(f"Remove all fence devices of {node}?", yes, "clear")
    document = session.api.request("DELETE", "node", node, "fence-device").document
    emit(session.output, document, lambda: str(document["reason"]), lambda: [node])


@click.command("fence-test")
@node_argument
@output_option
@pass_session
def fence_test(session: Session, node: str) -> int:
    """Ask each fence device of NODE for its status, no more.

    A device that is silent may take a minute. The exit status is 1 when one would not be of use, or there is none.
    """
    patient = replace(session.api, patience_s=TEST_S)
    document = patient.post("node", node, "fence-test", body={}).document
    devices: list[CheckedDeviceView] = document["devices"]
    none = f"{node} has no fence device; add one with `pvc node fence-device add`"
    emit(
        session.output,
        document,
        lambda: _checked(devices) if devices else none,
        lambda: [str(one["number"]) for one in devices],
    )
    return DONE if devices and not any(one["problem"] for one in devices) else FAILED


def _devices(devices: list[FenceDeviceView]) -> Table:
    table = Table(
        ("number", "level", "agent", "parameters", "problem"), right=("number", "level"), folding=("parameters",)
    )
    for one in devices:
        parameters = " ".join(f"{name}={value}" for name, value in one["parameters"].items())
        problem = Cell(one["problem"], "warning") if one["problem"] else NOTHING
        table.add(str(one["number"]), str(one["level"]), one["agent"], parameters or NOTHING, problem)
    return table


def _checked(devices: list[CheckedDeviceView]) -> Table:
    table = Table(("number", "level", "agent", "power", "says"), right=("number", "level"), folding=("says",))
    for one in devices:
        says = Cell(one["problem"], "bad") if one["problem"] else one["detail"] or NOTHING
        power = Cell(one["power"], MOOD_OF_POWER.get(one["power"], ""))
        table.add(str(one["number"]), str(one["level"]), one["agent"], power, says)
    return table
