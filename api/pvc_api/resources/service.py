# SPDX-License-Identifier: Apache-2.0
"""service: /health and /openapi.json: whether this process can serve, and what it serves."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Literal

import falcon
import msgspec

from pvc_api.documentation import SPEC_PATH, Media, documented, openapi_document
from pvc_api.problems import RETRY_AFTER_S
from pvc_api.services import Services
from pvc_api.version import pvc_version
from pvc_api.views import Health
from pvc_core.errors import StoreUnavailable
from pvc_core.ports import SessionState

_STATES: Mapping[SessionState, Literal["connected", "suspended", "lost"]] = {
    SessionState.CONNECTED: "connected",
    SessionState.SUSPENDED: "suspended",
    SessionState.LOST: "lost",
}


class HealthCheck:
    """/health"""

    def __init__(self, services: Services) -> None:
        self._view = services.view
        self._store = services.store

    @documented("Service", "public", {200: Health, 503: Health})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Tell whether this process can serve: 200, or 503 while the cluster's store is away. Needs no token."""
        state = _STATES[self._store.session_state]
        try:
            self._view.snapshot()
        except StoreUnavailable as error:
            resp.status = 503
            resp.set_header("Retry-After", str(RETRY_AFTER_S))
            resp.media = Health(status="unavailable", store=state, version=pvc_version(), detail=error.sentence())
            return
        resp.media = Health(status="ok", store=state, version=pvc_version())


class OpenApi:
    """/openapi.json"""

    def __init__(self, app: falcon.App[falcon.Request, falcon.Response]) -> None:
        self._app = app
        self._document = b""
        self._lock = threading.Lock()

    @documented("Service", "viewer", {200: Media(falcon.MEDIA_JSON)})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """This API's OpenAPI 3.1 document."""
        with self._lock:
            if not self._document:
                self._document = msgspec.json.encode(openapi_document(self._app))
        resp.data = self._document
        resp.content_type = falcon.MEDIA_JSON


__all__ = ["SPEC_PATH", "HealthCheck", "OpenApi"]
