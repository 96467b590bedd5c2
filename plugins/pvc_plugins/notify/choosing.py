# SPDX-License-Identifier: Apache-2.0
"""choosing: which events are passed on: by severity, and by kind where somebody knows better."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pvc_core import Event
from pvc_core.events import EventKind, Severity

Kind = Annotated[EventKind, msgspec.Meta(title="kinds in docs/events.md")]


class Choice(msgspec.Struct, frozen=True):
    """What the settings of both plugins have in common."""

    min_severity: Severity = Severity.WARNING
    """Events of this severity and above are passed on."""
    also_kinds: tuple[Kind, ...] = ()
    """Kinds that are passed on although they are less severe."""
    without_kinds: tuple[Kind, ...] = ()
    """Kinds that are never passed on."""
    cluster: str = "pvc"
    """What this cluster is called in messages."""


def is_chosen(event: Event, choice: Choice, plugin: str) -> bool:
    """Whether the plugin passes this on; its own failure never, because whoever could hear of it does not.

    A test neither: it is delivered at once, and not a second time.
    """
    is_its_own = event.kind == EventKind.PLUGIN_FAILED and event.plugin == plugin
    if event.kind in choice.without_kinds or is_its_own or event.kind == EventKind.NOTIFICATION_TEST:
        return False
    return event.kind in choice.also_kinds or event.severity.reaches(choice.min_severity)
