# SPDX-License-Identifier: Apache-2.0
"""layout: where everything stands in the store, so that no other module spells a key.

Keys are absolute, under the store's chroot, without a trailing slash. Every directory below exists from the
moment a daemon or API has called `ensure` with `DIRECTORIES`.
"""

from __future__ import annotations

from urllib.parse import quote

SCHEMA_VERSION = 1

SCHEMA = "/schema"
SETTINGS = "/settings"
LEADER = "/leader"
LEADER_EPOCH = "/leader/epoch"
LEADER_HOLDER = "/leader/holder"
MEMBERS = "/members"
NODES = "/nodes"
REPORTS = "/reports"
LEDGERS = "/ledger"
VMS = "/vms"
DEFINITIONS = "/definitions"
NAMES = "/names"
VM_NAMES = "/names/vms"
TOKENS = "/tokens"
RULES = "/rules"
EVENTS = "/events"
PLAN = "/plan"
MAINTENANCE = "/maintenance"
FENCING = "/fencing"
VOLUMES = "/volumes"
VM_SNAPSHOTS = "/vm-snapshots"
TASKS = "/tasks"
TASK_QUEUES = "/task-queues"

DIRECTORIES = (
    *(LEADER, MEMBERS, NODES, REPORTS, LEDGERS, VMS, DEFINITIONS, NAMES, VM_NAMES, TOKENS, RULES, EVENTS, FENCING),
    *(VOLUMES, VM_SNAPSHOTS, TASKS, TASK_QUEUES),
)


def member(node: str) -> str:
    """The ephemeral key of a living daemon."""
    return f"{MEMBERS}/{node}"


def node(name: str) -> str:
    """The node's record."""
    return f"{NODES}/{name}"


def report(name: str) -> str:
    """What the node last said of itself."""
    return f"{REPORTS}/{name}"


def ledger(name: str) -> str:
    """The VMs assigned to the node and what they reserve."""
    return f"{LEDGERS}/{name}"


def vm(uuid: str) -> str:
    """The VM's record."""
    return f"{VMS}/{uuid}"


def definition(uuid: str) -> str:
    """The VM's libvirt XML."""
    return f"{DEFINITIONS}/{uuid}"


def vm_name(name: str) -> str:
    """The key that makes the VM's name unique; its value is the UUID."""
    return f"{VM_NAMES}/{name}"


def token(name: str) -> str:
    """An API token's record."""
    return f"{TOKENS}/{name}"


def rule(name: str) -> str:
    """The rule's record."""
    return f"{RULES}/{name}"


def event(identity: str) -> str:
    """An event, by its id."""
    return f"{EVENTS}/{identity}"


def fence_devices(node: str) -> str:
    """The devices that can switch the node off, with their secrets."""
    return f"{FENCING}/{node}"


def volume_claim(backend: str, pool: str, name: str, node: str = "") -> str:
    """The key that makes the volume one VM's; whatever a pool is called, it is one key of its own."""
    parts = (backend, pool, name, *([node] if node else []))
    return f"{VOLUMES}/{':'.join(quote(part, safe='') for part in parts)}"


def vm_snapshot(uuid: str, name: str) -> str:
    """What the VM was at one moment."""
    return f"{VM_SNAPSHOTS}/{uuid}:{name}"


def task(identity: str) -> str:
    """A task of some node, by its id."""
    return f"{TASKS}/{identity}"


def task_queue(node: str) -> str:
    """The ids of the node's tasks that have not ended."""
    return f"{TASK_QUEUES}/{node}"


def name_in(key: str) -> str:
    """The last part of a key."""
    return key.rsplit("/", 1)[1]
