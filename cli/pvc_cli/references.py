# SPDX-License-Identifier: Apache-2.0
"""references: how a person names a VM, a node or a connection on the command line, and how TAB completes them.

A VM is named by its name, its UUID or the first digits of its UUID. Completion asks the cluster with little
patience and offers nothing when it gets no answer: a TAB must never hang or print an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from pvc_cli.connections import LOCAL, connections_path, load_connections
from pvc_cli.session import Session
from pvc_core.errors import InvalidInput, PvcError

COMPLETION_TIMEOUT_S = 1.0
SHORT_UUID = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{3,34}")
"""At least four digits: fewer would be too easily the wrong VM."""


def resolve_vm(session: Session, reference: str) -> str:
    """The reference the API understands: a name or whole UUID as given, the UUID for the first digits of one.

    Only what reads as the beginning of a UUID costs a request. Raises `InvalidInput` when several VMs begin so.
    """
    if not SHORT_UUID.fullmatch(reference):
        return reference
    vms = session.api.get("vm")["vms"]
    if any(vm.get("name") == reference for vm in vms):
        return reference
    found = [vm for vm in vms if str(vm["uuid"]).startswith(reference.lower())]
    if len(found) > 1:
        several = tuple(f"{vm['uuid']} ({vm.get('name') or 'broken'})" for vm in found)
        raise InvalidInput("vm", "several UUIDs begin like this", reference, several)
    return str(found[0]["uuid"]) if found else reference


class _Completed(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """Text that completes to names that a request finds."""

    def names(self, session: Session) -> Iterable[str]:
        """The names that exist."""
        raise NotImplementedError

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        session = Session(
            connection=str(ctx.find_root().params.get("connection") or ""), patience_s=COMPLETION_TIMEOUT_S
        )
        try:
            names = list(self.names(session))
        except PvcError:
            return []  # no cluster, no token, no answer in time: a TAB offers nothing and stays silent
        finally:
            session.close()
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


class VmReference(_Completed):
    """A VM's name, UUID or the first digits of its UUID."""

    name = "vm"

    def names(self, session: Session) -> Iterable[str]:
        return [str(vm["name"]) for vm in session.api.get("vm")["vms"] if vm.get("name")]


class NodeReference(_Completed):
    """A node's name."""

    name = "node"

    def names(self, session: Session) -> Iterable[str]:
        return [str(node["name"]) for node in session.api.get("node")["nodes"]]


class RuleReference(_Completed):
    """A rule's name."""

    name = "rule"

    def names(self, session: Session) -> Iterable[str]:
        return [str(rule["name"]) for rule in session.api.get("cluster", "rule")["rules"]]


class RuleMember(_Completed):
    """A VM's name, or a tag as tag:T."""

    name = "member"

    def names(self, session: Session) -> Iterable[str]:
        vms = session.api.get("vm")["vms"]
        tags = {f"tag:{tag}" for vm in vms for tag in vm["tags"]}
        return [*(str(vm["name"]) for vm in vms if vm.get("name")), *tags]


class LimitEntry(_Completed):
    """A node's name, or a label of nodes as label:NAME=VALUE."""

    name = "node"

    def names(self, session: Session) -> Iterable[str]:
        nodes = session.api.get("node")["nodes"]
        labels = {f"label:{key}={value}" for node in nodes for key, value in node["labels"].items()}
        return [*(str(node["name"]) for node in nodes), *labels]


class ConnectionReference(_Completed):
    """A connection's name."""

    name = "connection"

    def names(self, session: Session) -> Iterable[str]:
        return [LOCAL, *load_connections(connections_path(session.environment)).by_name]


class SelectorReference(_Completed):
    """A selector's name, or several with weights: mem:2,load:1; the last one completes."""

    name = "selector"

    def names(self, session: Session) -> Iterable[str]:
        drivers = [driver for plugin in session.api.get("plugin")["plugins"] for driver in plugin["drivers"]]
        return [str(driver["name"]) for driver in drivers if driver["kind"] == "selectors"]

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{item.value}") for item in super().shell_complete(ctx, param, last)]


class SettingReference(_Completed):
    """A cluster setting's name, a plugin's with the plugin's: acme.weight."""

    name = "setting"

    def names(self, session: Session) -> Iterable[str]:
        return flat_settings(session.api.get("cluster", "settings")["settings"])


class SettingAssignment(SettingReference):
    """NAME=VALUE; the name completes."""

    def names(self, session: Session) -> Iterable[str]:
        return [f"{name}=" for name in super().names(session)]


def flat_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The API's settings with those of plugins by the names under which one sets them."""
    plugins: dict[str, dict[str, Any]] = settings.get("plugins", {})
    own = {name: value for name, value in settings.items() if name != "plugins"}
    return {**own, **{f"{plugin}.{name}": value for plugin, vals in plugins.items() for name, value in vals.items()}}


def vm_argument(command: Any) -> Any:
    """The argument VM."""
    return click.argument("vm", type=VmReference(), metavar="VM")(command)


def node_argument(command: Any) -> Any:
    """The argument NODE."""
    return click.argument("node", type=NodeReference(), metavar="NODE")(command)
