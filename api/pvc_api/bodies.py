# SPDX-License-Identifier: Apache-2.0
"""bodies: what the API's methods take, in the body and in the query string.

Patches of metadata and settings are made from the records they change, so that a new field can be set through the
API from the moment it exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from pvc_api.authentication import Role
from pvc_api.decoding import Body, Query
from pvc_api.views import SettingValue, ShownVmState
from pvc_api.waiting import SinceVersion, WaitSeconds
from pvc_core.events import EventKind
from pvc_core.maintenance import DEFAULT_FOR_S, MAX_FOR_S
from pvc_core.metadata import LIST_FIELDS
from pvc_core.model import Name, RuleKind, Settings, VmMetadata
from pvc_core.plan_document import PlanDocument
from pvc_core.vm_snapshots import MAX_SNAPSHOTS


def _patch_of(
    record: type[msgspec.Struct], name: str, changed: Mapping[str, Any], nullable: bool = False
) -> type[Body]:
    """A body in which every field of the record may stand or be left out. Names also as one string: "hv2, hv3".

    changed: fields whose type differs here, None for those that are left out. nullable: any may be null.
    """
    hints = get_type_hints(record, include_extras=True)
    fields: list[tuple[str, Any, Any]] = []
    for field in record.__struct_fields__:
        kind: Any = changed.get(field, hints[field])
        if kind is not None:
            kind = kind | str if field in LIST_FIELDS else kind
            fields.append((field, kind | None | UnsetType if nullable else kind | UnsetType, UNSET))
    patch = msgspec.defstruct(name, fields, bases=(Body,), frozen=True, kw_only=True, module=__name__)
    return cast("type[Body]", patch)


MetadataPatch = _patch_of(VmMetadata, "MetadataPatch", {})
MetadataPatch.__doc__ = "The metadata fields to set; the others stay as they are."
SettingsPatch = _patch_of(
    Settings, "SettingsPatch", {"schema": None, "plugins": dict[str, dict[str, SettingValue]]}, nullable=True
)
SettingsPatch.__doc__ = """The cluster settings to change, null being the default; the others stay as they are.

Those of plugins stand under `plugins`, by plugin and name.
"""


def fields_set(patch: Body) -> dict[str, object]:
    """The fields that stand in a patch."""
    return {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not UNSET}


class DefineBody(Body, frozen=True):
    """A new VM: libvirt XML, metadata, and where it may be put: on `target`, or wherever its selector says."""

    definition: str
    metadata: MetadataPatch | UnsetType = UNSET  # type: ignore[valid-type]
    target: str = ""
    start: bool = False


class DefinitionBody(Body, frozen=True):
    """Another definition for a VM."""

    definition: str


class StateBody(Body, frozen=True):
    """What the VM is to do. `force`: at once, without asking the guest (shutdown, disable)."""

    state: Literal["start", "shutdown", "stop", "restart", "disable"]
    force: bool = False


class PlaceBody(Body, frozen=True):
    """Where the VM is to go: `migrate` for a time, `move` for good, `unmigrate` home.

    target: a node's name; empty, its selector chooses.
    """

    action: Literal["migrate", "move", "unmigrate"]
    target: str = ""


class VmVolumeBody(Body, frozen=True):
    """A volume that is to be a disk of the VM. device: what the guest sees, vda, vdb ...; empty: the first free one.

    size_bytes: it is made, of this size; null: it is there.
    """

    backend: str
    pool: str
    name: str
    device: str = ""
    size_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None


class RenameBody(Body, frozen=True):
    """The new name of a VM, or of a volume of one."""

    name: str


class ApplyBody(Body, frozen=True):
    """A plan as it was answered, to be carried out. `force`: also so soon after the last balance."""

    plan: PlanDocument
    force: bool = False


class DomainStateBody(Body, frozen=True):
    """What is to become of the node's VMs: `flush` drains it, `ready` takes it back into service."""

    state: Literal["flush", "ready"]


class FenceBody(Body, frozen=True):
    """How a lost node is to be dealt with. `confirmed`: a person says that it is off, so that its VMs are recovered."""

    confirmed: bool = False


class NotifyTestBody(Body, frozen=True):
    """A test of notifications. `message`: what else its receivers are to read."""

    message: str = ""


class FenceDeviceBody(Body, frozen=True):
    """A device that can switch a node off. parameters: of its fence agent. level: lower ones are tried first."""

    agent: str
    parameters: dict[str, str] = msgspec.field(default_factory=dict)
    level: int = 1


class FenceTestBody(Body, frozen=True):
    """Nothing has to be said."""


Reason = Annotated[str, msgspec.Meta(max_length=500)]


class MaintenanceBody(Body, frozen=True):
    """Whether the cluster is in maintenance, why, and for how many seconds at most."""

    on: bool
    for_s: Annotated[float, msgspec.Meta(gt=0, le=MAX_FOR_S)] = DEFAULT_FOR_S
    reason: Reason = ""


class NodeMaintenanceBody(Body, frozen=True):
    """Whether the node is in maintenance, why, and for how many seconds at most; null: until it is ended."""

    on: bool
    for_s: Annotated[float, msgspec.Meta(gt=0, le=MAX_FOR_S)] | None = None
    reason: Reason = ""


class TokenBody(Body, frozen=True):
    """A new token. `expires_in_s`: for how long it is good; without it, until it is removed."""

    name: Name
    role: Role
    expires_in_s: Annotated[int, msgspec.Meta(ge=1, le=10 * 366 * 86_400)] | None = None


class RuleBody(Body, frozen=True):
    """A rule. members: VMs, or `tag:T`; also as one string. nodes: of kind `prefer`, their weights."""

    kind: RuleKind
    members: tuple[str, ...] | str
    hard: bool = False
    nodes: dict[str, float] | UnsetType = UNSET


class NewRuleBody(RuleBody, frozen=True, kw_only=True):
    """A new rule."""

    name: Name


class WaitQuery(Query, frozen=True):
    """Of methods that start something."""

    wait: WaitSeconds = 0


class VmVolumeQuery(WaitQuery, frozen=True):
    """What becomes of a volume that is a disk of the VM no more."""

    delete: Annotated[bool, msgspec.Meta(description="Delete it, with what it holds")] = False


class VmSnapshotBody(Body, frozen=True):
    """A snapshot of the VM. name: empty, it is called after the time.

    keep: it is automatic, and of those only so many, the newest, stay; 0: it is not, and stays until it is removed.
    """

    name: str = ""
    keep: Annotated[int, msgspec.Meta(ge=0, le=MAX_SNAPSHOTS)] = 0


class RollbackBody(Body, frozen=True):
    """Nothing has to be said."""


class VolumeRepairBody(Body, frozen=True):
    """Nothing has to be said."""


class VmListQuery(Query, frozen=True):
    """Which VMs, and how many of them."""

    node: Annotated[str, msgspec.Meta(description="Only those on this node")] = ""
    state: Annotated[ShownVmState | Literal[""], msgspec.Meta(description="Only those in this state")] = ""
    tag: Annotated[str, msgspec.Meta(description="Only those with this tag")] = ""
    limit: Annotated[int, msgspec.Meta(ge=0, description="At most this many; 0 = all")] = 0
    after: Annotated[str, msgspec.Meta(description="Only those whose names come after this one")] = ""


class UndefineQuery(Query, frozen=True):
    """How a VM is forgotten."""

    force: Annotated[bool, msgspec.Meta(description="Also when its node is lost and its guest may still run there")] = (
        False
    )
    volumes: Annotated[
        Literal["keep", "delete"], msgspec.Meta(description="Of its volumes: they stay, or are deleted with it")
    ] = "keep"


class VmPlanQuery(Query, frozen=True):
    """Which change of a VM's node to plan."""

    action: Annotated[Literal["migrate", "move"], msgspec.Meta(description="For a time, or for good")] = "migrate"
    target: Annotated[str, msgspec.Meta(description="A node's name; empty, its selector chooses")] = ""
    make_room: Annotated[bool, msgspec.Meta(description="Other running VMs may move so that it fits")] = False


class CapacityQuery(Query, frozen=True):
    """Whose loss to look at, and the size of the VMs to fit."""

    node: Annotated[str, msgspec.Meta(description="Only the loss of this node")] = ""
    fit_memory_mib: Annotated[int, msgspec.Meta(ge=1, description="Memory of the VMs to fit")] | None = None
    fit_vcpus: Annotated[int, msgspec.Meta(ge=1, description="vCPUs of the VMs to fit")] | None = None


class NewVmQuery(Query, frozen=True):
    """A VM that does not exist yet."""

    memory_mib: Annotated[int, msgspec.Meta(ge=1, description="Its memory")]
    vcpus: Annotated[int, msgspec.Meta(ge=1, description="Its vCPUs")] = 1
    node_limit: Annotated[str, msgspec.Meta(description="Nodes it may run on, separated by commas; empty = any")] = ""
    node_selector: Annotated[str, msgspec.Meta(description="Its selector; empty = the cluster's default")] = ""
    tags: Annotated[str, msgspec.Meta(description="Its tags, separated by commas")] = ""


EventLimit = Annotated[
    int, msgspec.Meta(ge=0, le=10_000, description="At most this many, the last ones; 100 in a list, 0 before a stream")
]


class EventQuery(Query, frozen=True):
    """Which events, and how many of them."""

    vm: Annotated[str, msgspec.Meta(description="Only those of this VM, by name or UUID")] = ""
    node: Annotated[str, msgspec.Meta(description="Only those where this node was, or was the target")] = ""
    kind: Annotated[EventKind | None, msgspec.Meta(description="Only those of this kind")] = None
    since: Annotated[str, msgspec.Meta(description="Only those after the event with this id")] = ""
    limit: EventLimit | None = None
    follow: Annotated[bool, msgspec.Meta(description="Go on with new ones, as a server-sent stream")] = False


class WatchQuery(Query, frozen=True):
    """Of methods that tell how far something is."""

    wait: WaitSeconds = 0
    since: SinceVersion = -1
