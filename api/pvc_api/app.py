# SPDX-License-Identifier: Apache-2.0
"""app: the WSGI application: which resource answers under which URI, and what every request passes through."""

from __future__ import annotations

from typing import TypeAlias

import falcon

from pvc_api.contributed import add_contributed
from pvc_api.documentation import SPEC_PATH
from pvc_api.media import json_handlers
from pvc_api.middleware import Authentication, MaintenanceNotice, RequestLog
from pvc_api.problems import install_error_handlers
from pvc_api.resources.cluster import Cluster, ClusterNotifyTest, ClusterSettings
from pvc_api.resources.cluster_plan import ClusterPlan
from pvc_api.resources.events import EventCollection
from pvc_api.resources.fence_devices import FenceDeviceCollection, FenceDeviceResource, FenceTestResource
from pvc_api.resources.maintenance import ClusterMaintenance, NodeMaintenance
from pvc_api.resources.nodes import Node, NodeCollection, NodeDomainState, NodeFence
from pvc_api.resources.plans import (
    ClusterBalance,
    ClusterCapacity,
    ClusterPlacement,
    ClusterSnapshotFile,
    NodePlan,
    VmPlan,
)
from pvc_api.resources.plugins import Plugin, PluginCollection
from pvc_api.resources.rules import RuleCollection, RuleResource
from pvc_api.resources.service import HealthCheck, OpenApi
from pvc_api.resources.storage import StorageCollection
from pvc_api.resources.tasks import TaskCollection, TaskResource
from pvc_api.resources.tokens import Token, TokenCollection
from pvc_api.resources.vm_actions import VmDefinition, VmNode, VmPlacement, VmRename, VmState
from pvc_api.resources.vm_snapshots import VmSnapshot, VmSnapshotCollection, VmSnapshotRollback
from pvc_api.resources.vm_volumes import VmVolume, VmVolumeCollection, VmVolumeRename, VolumeRepair
from pvc_api.resources.vms import Vm, VmCollection
from pvc_api.services import Services

App: TypeAlias = falcon.App[falcon.Request, falcon.Response]

PREFIX = "/api/v1"
PLUGIN_TEMPLATES = ("/plugin", "/plugin/{name}")


def create_app(services: Services) -> App:
    """The application on these services."""
    log = RequestLog(services.log, services.audit_log, services.clock)
    app: App = falcon.App(middleware=[log, MaintenanceNotice(services.view), Authentication(services.authenticator)])
    app.req_options.media_handlers = json_handlers()
    app.resp_options.media_handlers = json_handlers()
    app.req_options.strip_url_path_trailing_slash = True
    install_error_handlers(app)

    def add_route(template: str, resource: object) -> None:
        app.add_route(f"{PREFIX}{template}", resource)

    own = _routes(services)
    for template, resource in own.items():
        add_route(template, resource)
    refusals = add_contributed(services, (*own, *PLUGIN_TEMPLATES, SPEC_PATH.removeprefix(PREFIX)), add_route)
    # These come last, since they tell what became of plugins.
    for template, kind in zip(PLUGIN_TEMPLATES, (PluginCollection, Plugin), strict=True):
        add_route(template, kind(services, refusals))
    app.add_route(SPEC_PATH, OpenApi(app))
    return app


def _routes(services: Services) -> dict[str, object]:
    """Resources by URI template, all but those of `PLUGIN_TEMPLATES`."""
    return {
        "/health": HealthCheck(services),
        "/vm": VmCollection(services),
        "/vm/{vm}": Vm(services),
        "/vm/{vm}/state": VmState(services),
        "/vm/{vm}/node": VmNode(services),
        "/vm/{vm}/placement": VmPlacement(services),
        "/vm/{vm}/plan": VmPlan(services),
        "/vm/{vm}/definition": VmDefinition(services),
        "/vm/{vm}/rename": VmRename(services),
        "/vm/{vm}/volume": VmVolumeCollection(services),
        "/vm/{vm}/volume/{device}": VmVolume(services),
        "/vm/{vm}/volume/{device}/rename": VmVolumeRename(services),
        "/vm/{vm}/snapshot": VmSnapshotCollection(services),
        "/vm/{vm}/snapshot/{name}": VmSnapshot(services),
        "/vm/{vm}/snapshot/{name}/rollback": VmSnapshotRollback(services),
        "/node": NodeCollection(services),
        "/node/{node}": Node(services),
        "/node/{node}/domain-state": NodeDomainState(services),
        "/node/{node}/fence": NodeFence(services),
        "/node/{node}/fence-device": FenceDeviceCollection(services),
        "/node/{node}/fence-device/{number}": FenceDeviceResource(services),
        "/node/{node}/fence-test": FenceTestResource(services),
        "/node/{node}/maintenance": NodeMaintenance(services),
        "/node/{node}/plan": NodePlan(services),
        "/cluster": Cluster(services),
        "/cluster/settings": ClusterSettings(services),
        "/cluster/maintenance": ClusterMaintenance(services),
        "/cluster/notify-test": ClusterNotifyTest(services),
        "/cluster/volume-repair": VolumeRepair(services),
        "/cluster/rule": RuleCollection(services),
        "/cluster/rule/{name}": RuleResource(services),
        "/cluster/snapshot": ClusterSnapshotFile(services),
        "/cluster/balance": ClusterBalance(services),
        "/cluster/plan": ClusterPlan(services),
        "/cluster/capacity": ClusterCapacity(services),
        "/cluster/placement": ClusterPlacement(services),
        "/events": EventCollection(services),
        "/storage": StorageCollection(services),
        "/task": TaskCollection(services),
        "/task/{task}": TaskResource(services),
        "/token": TokenCollection(services),
        "/token/{name}": Token(services),
    }
