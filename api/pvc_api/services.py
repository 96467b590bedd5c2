# SPDX-License-Identifier: Apache-2.0
"""services: what the API's resources are built from; a composition root (`wsgi`) fills it in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from pvc_api.authentication import Authenticator
from pvc_api.event_stream import EventTail
from pvc_api.tokens import TokenBook
from pvc_api.waiting import Waiter
from pvc_core.cluster_view import ClusterView
from pvc_core.commands import Commands
from pvc_core.errors import PluginError
from pvc_core.ports import Clock, ClusterStore
from pvc_core.registry import Registry

Log = structlog.typing.FilteringBoundLogger


@dataclass(frozen=True)
class Services:
    """One cluster as seen from one process."""

    commands: Commands
    view: ClusterView
    store: ClusterStore
    registry: Registry
    authenticator: Authenticator
    tokens: TokenBook
    waiter: Waiter
    event_tail: EventTail
    on_plugin_failure: Callable[[PluginError], None]
    """Writes an event of it, at most once a minute and plugin."""
    clock: Clock
    log: Log
    audit_log: Log
    """Where each request that changes something leaves a line."""
