# SPDX-License-Identifier: Apache-2.0
"""vms: /vm and /vm/{vm}: list, define, show, change metadata, replace the definition, undefine."""

from __future__ import annotations

import falcon
import msgspec
from msgspec import UNSET

from pvc_api.bodies import DefineBody, DefinitionBody, MetadataPatch, UndefineQuery, VmListQuery, WaitQuery, fields_set
from pvc_api.conditional import etag, if_match
from pvc_api.documentation import ETAG, documented
from pvc_api.lookup import Lookup
from pvc_api.rule_views import rules_of_vm
from pvc_api.services import Services
from pvc_api.views import VmInfo, VmList, VmOutcome
from pvc_api.vm_answers import VmAnswers
from pvc_api.vm_views import VmFilter, VmListEncoder, view_in
from pvc_api.volume_views import volumes_of_vm
from pvc_core.commands import Outcome
from pvc_core.errors import InvalidInput
from pvc_core.metadata import apply_patch
from pvc_core.model import VmMetadata


class VmCollection:
    """All VMs."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._answers = VmAnswers(services)
        self._encoder = VmListEncoder()

    @documented("VMs", "viewer", {200: VmList}, query=VmListQuery)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List VMs by name, those whose records do not parse included."""
        query: VmListQuery = req.context.query
        wanted = VmFilter(node=query.node, state=query.state, tag=query.tag)
        resp.data = self._encoder.encode(self._services.view.snapshot(), wanted, query.limit, query.after)
        resp.content_type = falcon.MEDIA_JSON

    @documented(
        "VMs",
        "operator",
        {201: VmOutcome, 202: VmOutcome},
        problems=(404, 409),
        body=DefineBody,
        query=WaitQuery,
        headers={**ETAG, "Location": "The VM's URL"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Define a VM from libvirt XML; it is placed within its limit by its selector.

        With `start` the answer is 202 until it runs.
        """
        body: DefineBody = req.context.json
        patch: dict[str, object] = {} if body.metadata is UNSET else fields_set(body.metadata)
        metadata = apply_patch(VmMetadata(), patch)
        outcome = self._services.commands.define(body.definition, metadata, target=body.target, start=body.start)
        self._answers.answer(req, resp, outcome, req.context.query.wait, done_status=201)
        if outcome.vm is not None:
            resp.location = f"/api/v1/vm/{outcome.vm.uuid}"


class Vm:
    """One VM, by name or UUID."""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._lookup = Lookup(services.view, services.store)
        self._answers = VmAnswers(services)

    @documented("VMs", "viewer", {200: VmInfo}, problems=(404, 409), headers=ETAG)
    def on_get(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Show a VM, its volumes, and the rules about it."""
        snapshot, stored = self._lookup.vm(vm)
        resp.set_header("ETag", etag(stored.version))
        view = view_in(snapshot, stored)
        resp.media = VmInfo(
            **msgspec.structs.asdict(view),
            volumes=volumes_of_vm(stored.value, snapshot),
            rules=rules_of_vm(stored.value, snapshot),
        )

    @documented("VMs", "operator", {200: VmOutcome}, problems=(404, 409, 412), body=MetadataPatch, headers=ETAG)
    def on_post(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Change a VM's metadata: the fields in the body. It counts from the next decision on."""
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = self._commands.change_metadata(uuid, fields_set(req.context.json))
        self._answers.answer_done(req, resp, outcome)

    @documented("VMs", "operator", {200: VmOutcome}, problems=(404, 409, 412), body=DefinitionBody, headers=ETAG)
    def on_put(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Replace a VM's definition. A guest that runs takes it over at its next start."""
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = self._commands.redefine(uuid, req.context.json.definition)
        self._answers.answer_done(req, resp, outcome)

    @documented("VMs", "operator", {200: VmOutcome}, problems=(404, 409, 412), query=UndefineQuery)
    def on_delete(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Undefine a VM that is off; with `force` also one whose node is lost. Its volumes stay, or are deleted."""
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = self._forget(uuid, req.context.query)
        self._answers.answer_gone(req, resp, outcome)

    def _forget(self, uuid: str, query: UndefineQuery) -> Outcome:
        if query.volumes == "keep":
            return self._commands.undefine(uuid, force=query.force)
        if query.force:
            raise InvalidInput("force", "does not go with volumes=delete: a guest may still use them", "true")
        return self._commands.remove_vm(uuid)
