# SPDX-License-Identifier: Apache-2.0
"""middleware: what happens around every request: an id, its size, who asks, and the lines it leaves in the log.

One canonical line per request, and an audit line for each that changes something, both with the token's name.
"""

from __future__ import annotations

import re
import secrets

import falcon
from msgspec.structs import replace

from pvc_api.authentication import NOBODY, Authenticator, Identity, access_to, act_as, check_role
from pvc_api.media import check_body_size
from pvc_api.services import Log
from pvc_api.streams import takes_stream
from pvc_core.cluster_view import ClusterView
from pvc_core.errors import StoreUnavailable
from pvc_core.maintenance import sentence_on
from pvc_core.ports import Clock

NOTICE_HEADER = "PVC-Notice"
READING = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestLog:
    """Names the request and logs what became of it."""

    def __init__(self, log: Log, audit_log: Log, clock: Clock) -> None:
        self._log = log
        self._audit_log = audit_log
        self._clock = clock

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Before anything else: later steps and error handlers rely on what is set here."""
        wanted = req.get_header("X-Request-Id") or ""
        req.context.request_id = wanted if _REQUEST_ID.fullmatch(wanted) else secrets.token_hex(8)
        req.context.log = self._log.bind(request_id=req.context.request_id)
        req.context.started_s = self._clock.monotonic_s()
        req.context.identity = NOBODY
        act_as(NOBODY)
        req.context.problem_code = ""
        req.context.outcome = ""
        resp.set_header("X-Request-Id", req.context.request_id)
        resp.set_header("Cache-Control", "no-store")

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, object]
    ) -> None:
        """Once the route is known, which says how large a body may be. Without a route nobody reads it."""
        if not takes_stream(resource, req.method):
            check_body_size(req)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        """After everything else, errors included."""
        identity: Identity = req.context.identity
        fields = {
            "method": req.method,
            "path": req.path,
            "status": resp.status_code,
            "token": identity.name,
            **({"code": req.context.problem_code} if req.context.problem_code else {}),
        }
        duration_ms = round((self._clock.monotonic_s() - req.context.started_s) * 1000, 1)
        req.context.log.info("request", duration_ms=duration_ms, remote=req.remote_addr, **fields)
        if req.method not in READING:
            fields["request_id"] = req.context.request_id
            role = identity.role if identity.name else ""
            self._audit_log.info("audit", role=role, outcome=req.context.outcome, **fields)
        act_as(NOBODY)


class MaintenanceNotice:
    """Says with each answer to a change that the cluster is in maintenance: whoever forgot it reads it there."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        """After the method, if it was one that changes something."""
        if req.method in READING or not req_succeeded or req.path.endswith("/maintenance"):
            return
        try:
            pause = self._view.snapshot().pause
        except StoreUnavailable:
            return  # what was asked for is done; a notice is not worth an error
        if pause is not None:
            resp.set_header(NOTICE_HEADER, sentence_on(replace(pause, reason="")))


class Authentication:
    """Lets a request through to its resource only with a role that may use the method."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, object]
    ) -> None:
        """Before the method is called, once the route is known."""
        needed = access_to(resource, req.method)
        if needed == "public":
            return
        req.context.identity = self._authenticator.authenticate(req.auth)
        act_as(req.context.identity)
        check_role(req.context.identity, needed)
