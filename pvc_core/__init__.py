# SPDX-License-Identifier: Apache-2.0
"""PVC's core: what a plugin needs, and the pure decisions that everything else executes.

The names in `__all__` are the plugin API: what a plugin imports from `pvc_core` stays as it is within a major
version. They are loaded on use, so that importing one small module of the core stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pvc_core.contributions import ApiBody, ApiQuery, ApiResource, ApiSite, CliCommand, answer_task, api_method
    from pvc_core.domain_xml import DomainDefinition
    from pvc_core.errors import PluginError, PvcError
    from pvc_core.events import Event, NodeChange, VmChange
    from pvc_core.fencing import DeviceCheck, FenceAgent, FenceAgentEntry, FenceRequest, FenceStatus, FenceVerdict
    from pvc_core.hookspecs import hookimpl
    from pvc_core.model import NodeMode, Settings, VmMetadata, VmRecord
    from pvc_core.networks import NetworkDriver, NetworkEntry, NetworkSite, NetworkSpec, NetworkState
    from pvc_core.plugin_types import (
        ConfigSection,
        Filter,
        FilterEntry,
        HypervisorEntry,
        HypervisorSite,
        LossPolicy,
        NodeCapacity,
        PlacementRequest,
        PluginOptions,
        RecoveryPolicy,
        RecoveryPolicyEntry,
        Rejection,
        RuleVerdict,
        Selector,
        SelectorEntry,
        StoreEntry,
        VmProposal,
    )
    from pvc_core.ports import ClusterStore, Hypervisor
    from pvc_core.snapshot import ClusterSnapshot, NodeView
    from pvc_core.storage import (
        ClonesVolumes,
        FencesClients,
        MovesContents,
        PoolUsage,
        ResizesVolumes,
        Snapshot,
        SnapshotsVolumes,
        StorageBackend,
        StorageBackendEntry,
        StorageCapability,
        StorageHealth,
        StorageSite,
        Volume,
        check_volume_name,
        check_volume_size,
    )
    from pvc_core.task_entries import NodeTask, NodeTaskEntry, TaskCancelled, TaskReport, TaskRequest
    from pvc_core.task_records import TaskView

__all__ = [
    # registering
    "hookimpl",
    "SelectorEntry",
    "FilterEntry",
    "RecoveryPolicyEntry",
    "StoreEntry",
    "HypervisorEntry",
    "StorageBackendEntry",
    "FenceAgentEntry",
    "NetworkEntry",
    "NodeTaskEntry",
    "ConfigSection",
    "CliCommand",
    "ApiResource",
    "api_method",
    "answer_task",
    # what a driver implements
    "Selector",
    "Filter",
    "LossPolicy",
    "RecoveryPolicy",
    "ClusterStore",
    "Hypervisor",
    "StorageBackend",
    "ResizesVolumes",
    "ClonesVolumes",
    "MovesContents",
    "SnapshotsVolumes",
    "FencesClients",
    "FenceAgent",
    "DeviceCheck",
    "NetworkDriver",
    # what it is given and gives back
    "PlacementRequest",
    "NodeCapacity",
    "Rejection",
    "RuleVerdict",
    "HypervisorSite",
    "StorageSite",
    "StorageHealth",
    "StorageCapability",
    "Volume",
    "Snapshot",
    "PoolUsage",
    "check_volume_name",
    "check_volume_size",
    "FenceRequest",
    "FenceVerdict",
    "FenceStatus",
    "NetworkSite",
    "NetworkSpec",
    "NetworkState",
    "TaskRequest",
    "TaskReport",
    "NodeTask",
    "TaskView",
    "ApiSite",
    "ApiBody",
    "ApiQuery",
    "PluginOptions",
    "VmProposal",
    "VmChange",
    "NodeChange",
    "Event",
    "DomainDefinition",
    "VmRecord",
    "VmMetadata",
    "NodeMode",
    "Settings",
    "ClusterSnapshot",
    "NodeView",
    # errors
    "PvcError",
    "PluginError",
    "TaskCancelled",
]

_HOMES = {
    "hookimpl": "hookspecs",
    "DomainDefinition": "domain_xml",
    "PvcError": "errors",
    "PluginError": "errors",
    "ApiBody": "contributions",
    "ApiQuery": "contributions",
    "ApiResource": "contributions",
    "ApiSite": "contributions",
    "CliCommand": "contributions",
    "api_method": "contributions",
    "answer_task": "contributions",
    "Event": "events",
    "NodeChange": "events",
    "VmChange": "events",
    "DeviceCheck": "fencing",
    "FenceAgent": "fencing",
    "FenceAgentEntry": "fencing",
    "FenceRequest": "fencing",
    "FenceStatus": "fencing",
    "FenceVerdict": "fencing",
    "NodeMode": "model",
    "Settings": "model",
    "VmMetadata": "model",
    "VmRecord": "model",
    "NetworkDriver": "networks",
    "NetworkEntry": "networks",
    "NetworkSite": "networks",
    "NetworkSpec": "networks",
    "NetworkState": "networks",
    "ClusterStore": "ports",
    "Hypervisor": "ports",
    "ClusterSnapshot": "snapshot",
    "NodeView": "snapshot",
    "ClonesVolumes": "storage",
    "FencesClients": "storage",
    "MovesContents": "storage",
    "PoolUsage": "storage",
    "ResizesVolumes": "storage",
    "Snapshot": "storage",
    "SnapshotsVolumes": "storage",
    "StorageBackend": "storage",
    "StorageCapability": "storage",
    "check_volume_name": "storage",
    "check_volume_size": "storage",
    "StorageBackendEntry": "storage",
    "StorageHealth": "storage",
    "StorageSite": "storage",
    "Volume": "storage",
    "NodeTask": "task_entries",
    "NodeTaskEntry": "task_entries",
    "TaskCancelled": "task_entries",
    "TaskReport": "task_entries",
    "TaskRequest": "task_entries",
    "TaskView": "task_records",
}
"""The module of each public name; the others live in `plugin_types`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'plugin_types')}")
    value: object = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
