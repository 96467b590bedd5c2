# SPDX-License-Identifier: Apache-2.0
"""notification_test: has every plugin that tells people of events deliver one now, and says what became of it.

What is never tried out is found broken in the night in which it matters. Plugins answer within the request, past the
queue in which events wait, so that whoever asked reads at once which certificate or password is wrong.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pvc_core.command_base import CommandBase
from pvc_core.errors import PluginError
from pvc_core.events import EventKind, Happening
from pvc_core.hook_calls import call_hook

SENTENCE = "this is a test, nothing has happened"


class NotificationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one plugin made of it. off: it is told to tell nobody. says: who took it, or why nobody did."""

    plugin: str
    result: Literal["delivered", "off", "failed"]
    says: str


class NotificationTest(msgspec.Struct, frozen=True, kw_only=True):
    """The event that was to be delivered, and what every plugin made of it."""

    event: str
    answers: tuple[NotificationAnswer, ...]


class NotificationCommands(CommandBase):
    """Trying notifications out."""

    def test_notifications(self, message: str = "") -> NotificationTest:
        """Write an event and have it delivered from this machine. message: what else its receivers are to read.

        Raises `StoreUnavailable`.
        """
        reason = f"{SENTENCE}: {message}" if message else SENTENCE
        event = self._view.note(Happening(EventKind.NOTIFICATION_TEST, reason))
        settings = self._view.settings
        answers: list[NotificationAnswer] = []
        for implementation in self._registry.implementations("pvc_notification_test"):
            plugin = implementation.plugin
            try:
                says = call_hook(self._registry, implementation, {"event": event}, settings, _sentence)
            except PluginError as failure:
                self._on_plugin_failure(failure)
                answers.append(NotificationAnswer(plugin=plugin, result="failed", says=failure.problem))
            else:
                result: Literal["delivered", "off"] = "delivered" if says else "off"
                answers.append(NotificationAnswer(plugin=plugin, result=result, says=says))
        return NotificationTest(event=event.id, answers=tuple(sorted(answers, key=lambda answer: answer.plugin)))


def _sentence(answer: object) -> str:
    if not isinstance(answer, str):
        raise TypeError(f"pvc_notification_test returned {answer!r} instead of a sentence")
    return answer
