# SPDX-License-Identifier: Apache-2.0
"""starting: a daemon waits for the store as long as it takes: after a power cut hosts come up before their store."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from pvc_core.errors import StoreUnavailable
from pvc_core.ports import Event
from pvc_daemon.node_daemon import NodeDaemon

log = structlog.get_logger(__name__)
CONNECT_AGAIN_S = 2.0


def start_when_possible(build: Callable[[], NodeDaemon], stopping: Event) -> NodeDaemon | None:
    """A daemon that has started; None when it was to stop before. Raises what cannot be helped by waiting."""
    while not stopping.is_set():
        daemon = build()
        try:
            daemon.start()
            return daemon
        except StoreUnavailable as error:
            log.warning("waiting_for_store", problem=error.problem)
            daemon.abandon()
            stopping.wait(CONNECT_AGAIN_S)
    return None
