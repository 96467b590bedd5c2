# SPDX-License-Identifier: Apache-2.0
"""storage: /storage: which storage backends are installed. What is below their names their plugins contribute."""

from __future__ import annotations

import falcon

from pvc_api.documentation import documented
from pvc_api.services import Services
from pvc_api.storage_views import StorageBackendList, backends_of


class StorageCollection:
    """/storage"""

    def __init__(self, services: Services) -> None:
        self._registry = services.registry
        self._view = services.view

    @documented("Storage", "viewer", {200: StorageBackendList})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the storage backends: what each can do, and whether it is usable on each node."""
        resp.media = backends_of(self._registry, self._view.snapshot())
