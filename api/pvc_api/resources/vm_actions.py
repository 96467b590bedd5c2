# SPDX-License-Identifier: Apache-2.0
"""vm_actions: what is below /vm/{vm}: its state, its node, its placement, its definition, its name."""

from __future__ import annotations

from collections.abc import Callable

import falcon

from pvc_api.bodies import PlaceBody, RenameBody, StateBody, WaitQuery, WatchQuery
from pvc_api.conditional import etag, if_match
from pvc_api.documentation import ETAG, Media, documented
from pvc_api.lookup import Lookup
from pvc_api.services import Services
from pvc_api.views import VmOutcome, VmPlaceView, VmStateView
from pvc_api.vm_answers import VmAnswers
from pvc_api.vm_views import place_view, view_in
from pvc_api.waiting import is_vm_settled, vm_settled
from pvc_core.commands import Commands, Outcome
from pvc_core.errors import InvalidInput
from pvc_core.placement import Decision


class VmState:
    """/vm/{vm}/state"""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lookup = Lookup(services.view, services.store)
        self._answers = VmAnswers(services)

    @documented("VMs", "viewer", {200: VmStateView}, problems=(404, 409), query=WatchQuery, headers=ETAG)
    def on_get(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Tell whether a VM has come to rest, and hold the answer until it has.

        `watch` URLs of other answers lead here.
        """
        query: WatchQuery = req.context.query
        uuid = self._lookup.vm(vm)[1].value.uuid
        self._services.waiter.wait(vm_settled(uuid, query.since), query.wait)
        snapshot, stored = self._lookup.vm(uuid)
        resp.set_header("ETag", etag(stored.version))
        resp.media = VmStateView(vm=view_in(snapshot, stored), settled=is_vm_settled(snapshot, uuid, query.since))

    @documented(
        "VMs",
        "operator",
        {200: VmOutcome, 202: VmOutcome},
        problems=(404, 409, 412),
        body=StateBody,
        query=WaitQuery,
        headers=ETAG,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Start, shut down, stop, restart or disable a VM.

        `start` also aborts a shutdown, a restart or a migration that is under way.
        """
        command = _state_command(self._services.commands, req.context.json)
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = command(uuid)
        self._answers.answer(req, resp, outcome, req.context.query.wait)


def _state_command(commands: Commands, body: StateBody) -> Callable[[str], Outcome]:
    """The command that a body asks for."""
    if body.force and body.state in ("start", "restart"):
        raise InvalidInput("force", f"means nothing to {body.state}", allowed=("shutdown", "stop", "disable"))
    return {
        "start": commands.start,
        "shutdown": commands.stop if body.force else commands.shutdown,
        "stop": commands.stop,
        "restart": commands.restart,
        "disable": lambda vm: commands.disable(vm, force=body.force),
    }[body.state]


class VmNode:
    """/vm/{vm}/node"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._lookup = Lookup(services.view, services.store)
        self._answers = VmAnswers(services)

    @documented("VMs", "viewer", {200: VmPlaceView}, problems=(404, 409), headers=ETAG)
    def on_get(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Tell where a VM is, where it belongs and where it is going to."""
        snapshot, stored = self._lookup.vm(vm)
        resp.set_header("ETag", etag(stored.version))
        resp.media = place_view(snapshot, stored.value)

    @documented(
        "VMs",
        "operator",
        {200: VmOutcome, 202: VmOutcome},
        problems=(404, 409, 412),
        body=PlaceBody,
        query=WaitQuery,
        headers=ETAG,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Migrate a VM for a time, move it for good, or bring it home."""
        body: PlaceBody = req.context.json
        if body.action == "unmigrate" and body.target:
            raise InvalidInput("target", "means nothing to unmigrate: the VM goes home", body.target)
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = self._run(uuid, body)
        self._answers.answer(req, resp, outcome, req.context.query.wait)

    def _run(self, uuid: str, body: PlaceBody) -> Outcome:
        if body.action == "unmigrate":
            return self._commands.unmigrate(uuid)
        command = self._commands.migrate if body.action == "migrate" else self._commands.move
        return command(uuid, body.target)


class VmPlacement:
    """/vm/{vm}/placement"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._lookup = Lookup(services.view, services.store)

    @documented("VMs", "viewer", {200: Decision}, problems=(404, 409))
    def on_get(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Explain where a VM would be placed now, who rejected which node, and why. Nothing changes."""
        resp.media = self._commands.questions().explain(self._lookup.vm(vm)[1].value.uuid)


class VmDefinition:
    """/vm/{vm}/definition"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._lookup = Lookup(services.view, services.store)

    @documented("VMs", "viewer", {200: Media(falcon.MEDIA_XML)}, problems=(404, 409))
    def on_get(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Dump a VM's libvirt XML."""
        resp.text = self._commands.definition(self._lookup.vm(vm)[1].value.uuid)
        resp.content_type = "text/xml; charset=utf-8"


class VmRename:
    """/vm/{vm}/rename"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._lookup = Lookup(services.view, services.store)
        self._answers = VmAnswers(services)

    @documented("VMs", "operator", {200: VmOutcome}, problems=(404, 409, 412), body=RenameBody, headers=ETAG)
    def on_post(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Give a VM that is off another name."""
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = self._commands.rename(uuid, req.context.json.name)
        self._answers.answer_done(req, resp, outcome)
