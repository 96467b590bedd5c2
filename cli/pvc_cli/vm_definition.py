# SPDX-License-Identifier: Apache-2.0
"""vm_definition: what a VM is: define it from libvirt XML, change its metadata or XML, rename it, forget it."""

from __future__ import annotations

from typing import Any

import click

from pvc_cli.definition_files import confirmed, diff_of, edited, kept_on_failure, read_definition
from pvc_cli.following import seconds_to_wait, wait_options
from pvc_cli.metadata_options import METADATA_FIELDS, metadata_options, metadata_patch
from pvc_cli.output import emit
from pvc_cli.references import resolve_vm, vm_argument
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import facts_table
from pvc_cli.views import VmView
from pvc_cli.vm_outcomes import conclude, in_state
from pvc_cli.vm_places import target_option
from pvc_cli.words import name_of, whereabouts
from pvc_core.errors import InvalidInput, Refused

TIMEOUT_S = 600

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@metadata_options
@target_option
@click.option("--start/--no-start", "starts", default=False, help="Start it at once.")
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def define(
    session: Session, /, file: str, target: str, starts: bool, wait: bool | None, timeout_s: float, **options: Any
) -> None:
    """Define a VM from libvirt XML, and place it.

    The XML is read from FILE, `-` for stdin.

    Its node is chosen by its selector within its limit, unless --target names one; that node becomes its home.
    --wait has an effect together with --start.
    """
    body = {"definition": read_definition(file), "metadata": metadata_patch(options), "target": target, "start": starts}
    session.going_on = "the command may have reached the cluster, see `pvc vm list`"
    answer = session.api.post("vm", body=body)
    conclude(session, answer, in_state("running") if starts else None, seconds_to_wait(wait, timeout_s))


@click.command()
@vm_argument
@metadata_options
@output_option
@pass_session
def meta(session: Session, /, vm: str, **options: Any) -> None:
    """Change how PVC treats VM; without options, show it.

    Only what is given changes. What runs goes on where it is: the next decision uses the new values.
    """
    patch = metadata_patch(options)
    name = resolve_vm(session, vm)
    if patch:
        conclude(session, session.api.post("vm", name, body=patch))
        return
    view: VmView = session.api.get("vm", name)
    metadata = {field: view.get(field) for field in METADATA_FIELDS}
    facts = {field: metadata_value(field, value) for field, value in metadata.items()}
    emit(session.output, metadata, lambda: facts_table(facts), lambda: [name_of(view)])


@click.command()
@vm_argument
@click.argument("file", type=click.Path(allow_dash=True), required=False)
@click.option(
    "--editor", is_flag=True, help="Edit the present definition in $VISUAL or $EDITOR instead of reading FILE."
)
@yes_option
@output_option
@pass_session
def modify(session: Session, vm: str, file: str | None, editor: bool, yes: bool) -> None:
    """Replace the libvirt XML of VM.

    By that in FILE, `-` for stdin, or by what you make of it with --editor. Shows the difference and asks. A running
    guest takes it over at its next start; name and UUID stay as they are.
    """
    if editor == bool(file):
        raise InvalidInput("modify", "needs either FILE or --editor")
    name = resolve_vm(session, vm)
    present = str(session.api.get("vm", name, "definition"))
    wanted = edited(present, name) if file is None else read_definition(file)
    difference = diff_of(present, wanted, name)
    if not difference:
        same = {"changed": False, "reason": "the definition is the same"}
        emit(session.output, same, lambda: f"{name}: {same['reason']}")
        return
    with kept_on_failure(wanted, name, keep=editor):
        click.echo(difference, err=True)
        confirmed(f"Change the definition of {name}?", yes, "modify")
        seen = _version_with(session, name, present)
        answer = session.api.request("PUT", "vm", name, body={"definition": wanted}, if_match=seen)
    conclude(session, answer)


@click.command()
@vm_argument
@pass_session
def dump(session: Session, vm: str) -> None:
    """Print the libvirt XML of VM."""
    text = str(session.api.get("vm", resolve_vm(session, vm), "definition"))
    click.echo(text, nl=not text.endswith("\n"))


@click.command()
@vm_argument
@click.argument("new_name")
@output_option
@pass_session
def rename(session: Session, vm: str, new_name: str) -> None:
    """Give VM, which must be off, the name NEW_NAME."""
    conclude(session, session.api.post("vm", resolve_vm(session, vm), "rename", body={"name": new_name}))


@click.command()
@vm_argument
@click.option("--force", is_flag=True, help="Also when its node is lost and its guest may still run there.")
@yes_option
@output_option
@pass_session
def undefine(session: Session, vm: str, force: bool, yes: bool) -> None:
    """Forget VM, which must be off.

    Its record, metadata and definition are gone after that. Its volumes are not touched;
    one with snapshots is not forgotten.

    With --force also a VM that is not off, if its node is lost: nothing recovers it then, and when the node is there
    again, it cuts the guest's power.
    """
    view: VmView = session.api.get("vm", resolve_vm(session, vm))
    if not yes:
        danger = _what_force_means(view) if force else ""
        confirmed(f"{name_of(view)} ({view['uuid']}) {whereabouts(view)}.{danger} Forget it?", yes, "undefine")
    parameters = {"force": "true"} if force else {}
    answer = session.api.request("DELETE", "vm", view["uuid"], parameters=parameters)
    done = f"{name_of(view)} is undefined"
    emit(session.output, answer.document, lambda: answer.document["reason"] if force else done, lambda: [name_of(view)])


def _what_force_means(view: VmView) -> str:
    """Of a VM that is off: nothing."""
    if view["state"] in ("stopped", "failed", "disabled"):
        return ""
    where = f"{view['node']} or {view['target']}" if view["target"] else view["node"]
    return f" Its guest may still be running on {where} and write to its disks; nothing will recover it."


def _version_with(session: Session, name: str, definition: str) -> str:
    """The entity tag of VM, which still has this definition. Raises `Refused` when somebody else has changed it."""
    etag = session.api.request("GET", "vm", name).etag
    if session.api.get("vm", name, "definition") != definition:
        raise Refused(name, "its definition was changed by somebody else while you looked at it; nothing was changed")
    return etag


def metadata_value(field: str, value: object) -> str:
    """A field of the metadata for a person; what is empty says what that means."""
    if field == "node_limit":
        return ",".join(value) if isinstance(value, list) and value else "any"
    if field in ("node_selector", "shutdown_timeout_s", "start_failures", "relocations") and value in ("", None):
        return "the cluster's"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(value) or "-"
    return "-" if value in ("", None) else str(value)
