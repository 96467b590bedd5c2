# SPDX-License-Identifier: Apache-2.0
"""task_entries: how a plugin carries out work on one host: registered by name, handed over by its own API resources.

What is reachable from anywhere is done where it is asked for. A node task is for what only one host can do, such as to
prepare its disk, or to make a volume in a folder that no other host has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pvc_core.errors import InvalidInput, TooLarge
from pvc_core.plugin_types import NO_OPTIONS, PluginOptions

MAX_BYTES = 64 * 1024
"""Of a task's parameters, and of its result."""


class TaskCancelled(Exception):
    """Raised by the report of a task that somebody has called off: tidy up and let it pass."""


@dataclass(frozen=True)
class NodeTask:
    """A task to be handed to a node.

    kind: the `NodeTaskEntry` of the same plugin. title: what it does, for people, such as "add the OSD on /dev/sdb".
    parameters: for it, as JSON can hold them; everybody with a token can read them, so no secrets.
    """

    node: str
    kind: str
    title: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskRequest:
    """What a node is to do. resumed: an earlier life of this daemon had begun it, and may have done part of it."""

    node: str
    parameters: Mapping[str, Any]
    options: PluginOptions = NO_OPTIONS
    resumed: bool = False


class TaskReport(Protocol):
    """Says how far a task is."""

    def __call__(self, done: int, total: int, sentence: str, /) -> None:
        """So much is done, of so much (0: unknown), and what is being done now.

        As often as one likes: it is written once a second. Raises `TaskCancelled` when the task is called off.
        """


@dataclass(frozen=True)
class NodeTaskEntry:
    """What carries out tasks of one kind.

    run: does it, on a thread of its own, for as long as it takes, and returns its result as JSON can hold it. A
    `PvcError` that it raises is the reason why the task has failed. resumable: after the death of the daemon it may be
    begun again; without this such a task has failed.
    """

    name: str
    summary: str
    run: Callable[[TaskRequest, TaskReport], Mapping[str, Any]]
    resumable: bool = False
    plugin: str = ""


def checked_json(what: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the value as it is read back. Raises `InvalidInput` and `TooLarge`, naming `what`."""
    if not isinstance(value, Mapping):
        raise InvalidInput(what, f"is a {type(value).__name__}, and must be an object")
    try:
        text = json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(what, f"cannot be kept as JSON: {error}") from error
    if len(text) > MAX_BYTES:
        raise TooLarge(what, len(text), MAX_BYTES)
    copy: dict[str, Any] = json.loads(text)
    return copy
