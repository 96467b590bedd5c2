# SPDX-License-Identifier: Apache-2.0
"""task_commands: to give a node a task or question, to look how far they are, to call one off; to forget the oldest."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from pvc_core import layout, task_changes
from pvc_core.changes import Change
from pvc_core.codec import Stored, decode
from pvc_core.command_base import CommandBase
from pvc_core.errors import BrokenRecord, Conflict, InvalidInput, NotFound, Refused
from pvc_core.ports import Check, ClusterStore, Delete
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.task_entries import NodeTask, checked_json
from pvc_core.task_records import ENDED, TaskRecord, TaskView, view_of

KEPT_ENDED = 200
"""Tasks that have ended and are remembered, of the whole cluster."""
FORGOTTEN_AT_ONCE = 200
_ID = re.compile(r"[0-9]{13,}-[0-9a-f]{8}")


@dataclass(frozen=True)
class Tasks:
    """Tasks, oldest first, and the records that do not parse."""

    tasks: tuple[TaskView, ...]
    broken: tuple[BrokenRecord, ...] = ()


class TaskCommands(CommandBase):
    """Tasks of nodes."""

    def give_task(self, task: NodeTask, plugin: str) -> TaskView:
        """Hand a task of this plugin to a node, which begins it soon. Raises `NotFound`, `InvalidInput`, `Refused`."""
        return view_of(self._give(task, plugin, is_question=False))

    def give_question(self, task: NodeTask, plugin: str) -> TaskView:
        """As `give_task`, for what changes nothing: there are no events, and it goes with this process's session.

        Whoever has its answer, or waits no longer, withdraws it.
        """
        return view_of(self._give(task, plugin, is_question=True))

    def withdraw_question(self, identity: str) -> None:
        """Let nothing of it stay, wherever it is by now. One that is gone already is no error."""

        def decide(snapshot: ClusterSnapshot) -> Change:
            entry = self._store.get(layout.task(identity))
            if entry is None:
                return Change((), f"{identity} is gone already")
            stored = decode(entry, TaskRecord)
            return task_changes.withdraw(stored, task_changes.read_queue(self._store, stored.value.node))

        self._view.commit(decide)

    def _give(self, task: NodeTask, plugin: str, *, is_question: bool) -> TaskRecord:
        entry = self._registry.node_tasks.get(task.kind)
        if entry is None or entry.plugin != plugin:
            own = sorted(name for name, one in self._registry.node_tasks.items() if one.plugin == plugin)
            raise InvalidInput("kind", f"is no task of the plugin {plugin}", task.kind, own)
        parameters = checked_json("parameters", task.parameters)
        now = self._clock.utc_iso()
        record = TaskRecord(
            id=f"{self._clock.utc_ms():013d}-{secrets.token_hex(4)}",
            node=task.node,
            kind=task.kind,
            title=task.title,
            parameters=parameters,
            reason=f"waits for {task.node}",
            question=is_question,
            given_at=now,
        )

        def decide(snapshot: ClusterSnapshot) -> Change:
            self._refuse_absent(task, snapshot)
            return task_changes.give(record, task_changes.read_queue(self._store, task.node))

        self._view.commit(decide)
        return record

    @staticmethod
    def _refuse_absent(task: NodeTask, snapshot: ClusterSnapshot) -> None:
        """Raises `NotFound` and `Refused` for a node on which nobody would carry it out."""
        node = snapshot.node(task.node)
        if node.member is None:
            raise Refused(task.node, f"its daemon is {node.liveness}, and nothing else could do this there")
        if task.kind not in node.member.value.drivers.get("node_tasks", (task.kind,)):
            raise Refused(task.node, f"no plugin there carries out {task.kind}; see `pvc plugin list --cluster`")

    def tasks(self, node: str = "") -> Tasks:
        """The tasks that are remembered, oldest first, of one node or of all. Raises `NotFound`."""
        if node:
            self._view.snapshot().node(node)
        found, broken = read_tasks(self._store)
        views = [view_of(stored.value) for stored in found if not node or stored.value.node == node]
        return Tasks(tuple(views), tuple(broken))

    def task(self, identity: str) -> TaskView:
        """One task. Raises `NotFound`, `BrokenRecord`."""
        return view_of(self._task(identity).value)

    def cancel_task(self, identity: str) -> tuple[TaskView, str]:
        """Call a task off; what became of it, and the sentence. Raises `NotFound`, `Refused` for one that is over."""

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = self._task(identity)
            queue = task_changes.read_queue(self._store, stored.value.node)
            node = snapshot.nodes.get(stored.value.node)
            is_there = node is not None and node.member is not None
            return task_changes.call_off(stored, queue, self._clock.utc_iso(), is_there)

        reason = self._view.commit(decide).reason
        return self.task(identity), reason

    def _task(self, identity: str) -> Stored[TaskRecord]:
        entry = self._store.get(layout.task(identity)) if _ID.fullmatch(identity) else None
        if entry is None:
            raise NotFound("task", identity)
        return decode(entry, TaskRecord)


def read_tasks(store: ClusterStore) -> tuple[list[Stored[TaskRecord]], list[BrokenRecord]]:
    """All tasks that are remembered, oldest first; and those that do not parse."""
    found: list[Stored[TaskRecord]] = []
    broken: list[BrokenRecord] = []
    keys = [layout.task(identity) for identity in store.children(layout.TASKS)]
    entries = store.get_many(keys) if keys else {}
    for key in keys:
        if key not in entries:
            continue
        try:
            found.append(decode(entries[key], TaskRecord))
        except BrokenRecord as error:
            broken.append(error)
    return found, broken


def forget_tasks(store: ClusterStore, epoch: int, kept: int = KEPT_ENDED) -> int:
    """Forget the oldest that have ended, until `kept` of them are left; how many. Raises `Conflict` when deposed."""
    if len(store.children(layout.TASKS)) <= kept:
        return 0
    ended = [stored for stored in read_tasks(store)[0] if stored.value.state in ENDED]
    old = ended[: max(0, len(ended) - kept)][:FORGOTTEN_AT_ONCE]
    if not old:
        return 0
    try:
        deletes = [Delete(stored.key, stored.version) for stored in old]
        store.transaction([Check(layout.LEADER_EPOCH, epoch), *deletes])
    except Conflict as conflict:
        if conflict.key == layout.LEADER_EPOCH:
            raise
        return 0  # somebody else forgets them too: the next round sees what is left
    return len(old)
