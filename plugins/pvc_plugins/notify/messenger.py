# SPDX-License-Identifier: Apache-2.0
"""messenger: what every plugin that tells people of events does: choose, collect in an outbox, and answer a test."""

from __future__ import annotations

from collections.abc import Callable

from pvc_core import ConfigSection, Event, PluginOptions, hookimpl
from pvc_plugins.notify.choosing import is_chosen
from pvc_plugins.notify.outbox import Outbox, Pace, Receiver, try_out

ReceiverOf = Callable[[PluginOptions], Receiver | None]
"""Whom these options tell; None: nobody."""


class Messenger:
    """One such plugin; a subclass says in its docstring what it is."""

    def __init__(self, name: str, section: ConfigSection, receiver_of: ReceiverOf, pace: Pace) -> None:
        self._name = name
        self._section = section
        self._receiver_of = receiver_of
        self.outbox = Outbox(name, pace)

    @hookimpl
    def pvc_config_section(self) -> ConfigSection:
        return self._section

    @hookimpl
    def pvc_event(self, event: Event, options: PluginOptions) -> None:
        receiver = self._receiver_of(options)
        if receiver is not None and is_chosen(event, options.cluster, self._name):
            self.outbox.put(event, receiver)
        self.outbox.raise_failure()

    @hookimpl
    def pvc_notification_test(self, event: Event, options: PluginOptions) -> str:
        return try_out(self._name, event, self._receiver_of(options))
