# SPDX-License-Identifier: Apache-2.0
"""vm_answers: what a command on a VM answers: at once, or after it is done, or with the URL that tells when it is."""

from __future__ import annotations

import falcon

from pvc_api.conditional import etag
from pvc_api.services import Services
from pvc_api.views import VmOutcome, VmView
from pvc_api.vm_views import view_in, view_of
from pvc_api.waiting import SETTLED_STATES, vm_settled
from pvc_core.commands import Outcome
from pvc_core.errors import StoreUnavailable
from pvc_core.model import VmRecord

RETRY_AFTER_S = 1


class VmAnswers:
    """Answers for the commands of one cluster."""

    def __init__(self, services: Services) -> None:
        self._view = services.view
        self._waiter = services.waiter
        self._log = services.log

    def answer(
        self, req: falcon.Request, resp: falcon.Response, outcome: Outcome, wait_s: float = 0, done_status: int = 200
    ) -> None:
        """Wait for the VM to settle, at most `wait_s`; 202 and what to watch when it has not."""
        record = _record_of(outcome)
        req.context.outcome = outcome.reason
        view, settled = self._settle(record, wait_s)
        watch = "" if settled else f"/api/v1/vm/{record.uuid}/state?since={view.version}"
        resp.status = done_status if settled else 202
        if not settled:
            resp.set_header("Retry-After", str(RETRY_AFTER_S))
        resp.set_header("ETag", etag(view.version))
        resp.media = VmOutcome(
            vm=view,
            changed=outcome.changed,
            reason=outcome.reason,
            watch=watch,
            decision=outcome.decision,
            warnings=outcome.warnings,
        )

    def answer_done(self, req: falcon.Request, resp: falcon.Response, outcome: Outcome) -> None:
        """The command is done with what it wrote, whatever else the VM is doing."""
        req.context.outcome = outcome.reason
        view, _ = self._settle(_record_of(outcome), 0)
        resp.set_header("ETag", etag(view.version))
        resp.media = VmOutcome(vm=view, changed=outcome.changed, reason=outcome.reason, warnings=outcome.warnings)

    def answer_gone(self, req: falcon.Request, resp: falcon.Response, outcome: Outcome) -> None:
        """The VM does not exist any more: as it was last."""
        req.context.outcome = outcome.reason
        view = view_of(_record_of(outcome), -1)
        resp.media = VmOutcome(vm=view, changed=outcome.changed, reason=outcome.reason, warnings=outcome.warnings)

    def _settle(self, record: VmRecord, wait_s: float) -> tuple[VmView, bool]:
        """The VM after waiting. The command is in the store by now: losing the store does not make it an error."""
        try:
            stored = self._view.snapshot().vms.get(record.uuid)
            settled = self._waiter.wait(vm_settled(record.uuid, stored.version if stored else -1), wait_s)
            snapshot = self._view.snapshot()
            stored = snapshot.vms.get(record.uuid)
        except StoreUnavailable as error:
            self._log.warning("outcome_unseen", vm=record.name, problem=error.problem)
            return view_of(record, -1), record.state in SETTLED_STATES
        if stored is None:
            return view_of(record, -1), True
        return view_in(snapshot, stored), settled


def _record_of(outcome: Outcome) -> VmRecord:
    if outcome.vm is None:
        raise TypeError(f"a command on a VM came back without one: {outcome.reason}")
    return outcome.vm
