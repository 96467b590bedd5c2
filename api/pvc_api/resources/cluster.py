# SPDX-License-Identifier: Apache-2.0
"""cluster: /cluster, /cluster/settings, /cluster/notify-test: at a glance, what is set for all, who hears of events."""

from __future__ import annotations

import falcon

from pvc_api.bodies import NotifyTestBody, SettingsPatch, fields_set
from pvc_api.cluster_views import status_of
from pvc_api.conditional import etag, if_match
from pvc_api.documentation import ETAG, documented
from pvc_api.services import Services
from pvc_api.views import ClusterStatus, SettingsOutcome, SettingsView
from pvc_core import layout
from pvc_core.election import holder_of
from pvc_core.notification_test import NotificationTest
from pvc_core.settings_changes import all_settings


class Cluster:
    """/cluster"""

    def __init__(self, services: Services) -> None:
        self._view = services.view
        self._store = services.store
        self._registry = services.registry

    @documented("Cluster", "viewer", {200: ClusterStatus})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the cluster: counts, the leader, what is wrong, and records that do not parse."""
        snapshot = self._view.snapshot()
        holder = holder_of(self._store.get(layout.LEADER_HOLDER))
        leader = holder.candidate if holder else ""
        problems = self._registry.configurations.problems(snapshot.settings)
        resp.media = status_of(snapshot, self._store.session_state.value, leader, problems)


class ClusterSettings:
    """/cluster/settings"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._registry = services.registry
        self._view = services.view

    @documented("Cluster", "viewer", {200: SettingsView}, headers=ETAG)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the settings, those of plugins by plugin under `plugins`."""
        snapshot = self._view.snapshot()
        resp.set_header("ETag", etag(snapshot.settings_version))
        resp.media = SettingsView(
            settings=all_settings(snapshot.settings, self._registry), version=snapshot.settings_version
        )

    @documented("Cluster", "admin", {200: SettingsOutcome}, problems=(409, 412), body=SettingsPatch, headers=ETAG)
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Change the settings in the body, null being the default; the others stay as they are."""
        self._view.refresh([layout.SETTINGS])
        with if_match(req, lambda snapshot: snapshot.settings_version, "settings"):
            outcome = self._commands.change_settings(fields_set(req.context.json))
        req.context.outcome = outcome.reason
        snapshot = self._view.snapshot()
        resp.set_header("ETag", etag(snapshot.settings_version))
        resp.media = SettingsOutcome(
            settings=all_settings(snapshot.settings, self._registry),
            version=snapshot.settings_version,
            changed=outcome.changed,
            reason=outcome.reason,
            warnings=outcome.warnings,
        )


class ClusterNotifyTest:
    """/cluster/notify-test"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands

    @documented("Cluster", "admin", {200: NotificationTest}, body=NotifyTestBody)
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Have every plugin that tells of events deliver one now, from this machine, and say what became of it."""
        body: NotifyTestBody = req.context.json
        tried = self._commands.test_notifications(body.message)
        req.context.outcome = ", ".join(f"{answer.plugin}: {answer.result}" for answer in tried.answers)
        resp.media = tried
