# SPDX-License-Identifier: Apache-2.0
"""fence_devices: /node/{node}/fence-device with its members, and /node/{node}/fence-test: what switches a node off.

Everybody may see them, without secrets. To change them takes an admin: they hold passwords, and where a node's device
is wrong, another host is switched off. To test them logs in to them, which is an operator's work.
"""

from __future__ import annotations

import threading

import falcon

from pvc_api.bodies import FenceDeviceBody, FenceTestBody
from pvc_api.documentation import documented
from pvc_api.fence_answers import (
    FenceDeviceList,
    FenceDeviceOutcome,
    FenceTest,
    agent_view,
    checked_view,
    device_views,
)
from pvc_api.lookup import Lookup
from pvc_api.problems import PluginBusy
from pvc_api.services import Services
from pvc_api.views import BrokenRecordView
from pvc_core.errors import BrokenRecord, NotFound
from pvc_core.fence_commands import DeviceOutcome

LOCATION = {"Location": "The device's URL"}
MAX_TESTS = 2
"""At a time in one process: a silent device holds a thread for up to a minute."""


class FenceDevices:
    """The devices of one node."""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._registry = services.registry
        self._lookup = Lookup(services.view, services.store)

    def _answer(self, req: falcon.Request, resp: falcon.Response, node: str, outcome: DeviceOutcome) -> None:
        req.context.outcome = outcome.reason
        resp.media = FenceDeviceOutcome(
            node=node,
            devices=device_views(outcome.devices, self._registry),
            changed=outcome.changed,
            reason=outcome.reason,
            number=outcome.number,
        )


class FenceDeviceCollection(FenceDevices):
    """/node/{node}/fence-device"""

    @documented("Nodes", "viewer", {200: FenceDeviceList}, problems=(404,))
    def on_get(self, req: falcon.Request, resp: falcon.Response, node: str) -> None:
        """List the devices that can switch a node off, and the fence agents that further ones may name."""
        broken: tuple[BrokenRecordView, ...] = ()
        try:
            devices = self._commands.fence_devices(node)
        except BrokenRecord as error:
            devices, broken = (), (BrokenRecordView(key=error.key, problem=error.problem),)
        resp.media = FenceDeviceList(
            node=node,
            devices=device_views(devices, self._registry),
            agents=tuple(agent_view(entry) for _, entry in sorted(self._registry.fence_agents.items())),
            broken=broken,
        )

    @documented(
        "Nodes", "admin", {201: FenceDeviceOutcome}, problems=(404, 409), body=FenceDeviceBody, headers=LOCATION
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, node: str) -> None:
        """Add a device that can switch a node off. Nothing is asked of it: see `fence-test`."""
        body: FenceDeviceBody = req.context.json
        self._lookup.refresh_node(node)
        outcome = self._commands.add_fence_device(node, body.agent, body.parameters, body.level)
        self._answer(req, resp, node, outcome)
        resp.status = 201
        resp.location = f"/api/v1/node/{node}/fence-device/{outcome.number}"

    @documented("Nodes", "admin", {200: FenceDeviceOutcome}, problems=(404, 409))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, node: str) -> None:
        """Remove all devices of a node, also when their record does not parse."""
        self._lookup.refresh_node(node)
        self._answer(req, resp, node, self._commands.clear_fence_devices(node))


class FenceDeviceResource(FenceDevices):
    """/node/{node}/fence-device/{number}"""

    @documented("Nodes", "admin", {200: FenceDeviceOutcome}, problems=(404, 409))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, node: str, number: str) -> None:
        """Remove a device by its number."""
        self._lookup.refresh_node(node)
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            known = [str(each.number) for each in self._commands.fence_devices(node)]
            raise NotFound(f"fence device of {node}", number, known)
        self._answer(req, resp, node, self._commands.remove_fence_device(node, int(number)))


class FenceTestResource(FenceDevices):
    """/node/{node}/fence-test"""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._slots = threading.BoundedSemaphore(MAX_TESTS)

    @documented("Nodes", "operator", {200: FenceTest}, problems=(404, 409), body=FenceTestBody)
    def on_post(self, req: falcon.Request, resp: falcon.Response, node: str) -> None:
        """Ask each device of a node for its status, and nothing else. A silent one takes up to its agent's deadline."""
        self._lookup.refresh_node(node)
        if not self._slots.acquire(blocking=False):
            raise PluginBusy("fence-test", MAX_TESTS)
        try:
            checked = self._commands.check_fence_devices(node)
        finally:
            self._slots.release()
        answering = sum(not each.problem for each in checked)
        req.context.outcome = f"{answering} of {len(checked)} fence devices of {node} are of use"
        resp.media = FenceTest(node=node, devices=tuple(checked_view(each) for each in checked))
