# SPDX-License-Identifier: Apache-2.0
"""task_runner: carries out the tasks of this node, each on a thread of its own, and writes how far they are.

All that is written about tasks one thread writes, at most once a second while one runs; what a task reports waits in
memory for it. So a task never waits for the store, and a store that is away costs no task: it goes on, and what has
become of it is written when the store is back.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from textwrap import shorten
from typing import Any

import msgspec
import structlog

from pvc_core import layout, task_changes
from pvc_core.changes import Change
from pvc_core.codec import Stored, decode, encode
from pvc_core.errors import BrokenRecord, Conflict, PluginError, PvcError, StoreUnavailable
from pvc_core.journal import Journal
from pvc_core.node_tasks import BeginTask, EndTask, decide
from pvc_core.plugin_threads import ask_here
from pvc_core.plugin_types import PluginOptions
from pvc_core.ports import Clock, ClusterStore, Entry, Set, Subscription, Thread, Threads
from pvc_core.task_entries import NodeTaskEntry, TaskCancelled, TaskRequest, checked_json
from pvc_core.task_records import TaskQueue, TaskRecord, TaskState

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 1.0
"""While a task runs: how often its progress is written, and what others have written is looked at."""
RETRY_S = 1.0
"""Pause while the store is away."""
SENTENCE_LENGTH = 300


@dataclass(frozen=True)
class Outcome:
    """How a task ended."""

    state: TaskState
    reason: str
    result: Mapping[str, Any]


class Running:
    """A task that is carried out here. Its own thread reports; the runner's thread reads."""

    def __init__(self, is_question: bool) -> None:
        self.is_question = is_question
        self.progress: dict[str, Any] = {}
        """Fields of the record, as last reported; replaced as a whole."""
        self.written: dict[str, Any] = {}
        self.is_cancelling = False
        self.outcome: Outcome | None = None

    def report(self, done: int, total: int, sentence: str) -> None:
        """What a plugin calls; see `TaskReport`."""
        if self.is_cancelling:
            raise TaskCancelled
        self.progress = {
            "done": int(done),
            "total": int(total),
            "sentence": shorten(str(sentence), SENTENCE_LENGTH, placeholder=" ..."),
        }


class TaskRunner:
    """The tasks of one node, in one life of its daemon."""

    def __init__(
        self,
        node: str,
        store: ClusterStore,
        entries: Mapping[str, NodeTaskEntry],
        options: Callable[[str], PluginOptions],
        clock: Clock,
        may_act: Callable[[], bool],
        journal: Journal,
        threads: Threads,
        incarnation: str = "",
    ) -> None:
        """options: of a plugin, by its name. incarnation: tells this life of the daemon from all others."""
        self._node = node
        self._store = store
        self._entries = entries
        self._options = options
        self._clock = clock
        self._may_act = may_act
        self._journal = journal
        self._threads = threads
        self._incarnation = incarnation or secrets.token_hex(8)
        self._running: dict[str, Running] = {}
        self._subscription: Subscription | None = None
        self._wake = threads.event()
        self._stopping = threads.event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Watch for tasks and carry them out. Raises `StoreUnavailable`."""
        self._subscription = self._store.watch(layout.task_queue(self._node), lambda _entry: self._wake.set())
        self._thread = self._threads.start("tasks", self._run)

    def close(self, patience_s: float = 2.0) -> None:
        """Begin no more tasks. Those that run die with the process; the next life of the daemon says what then."""
        self._stopping.set()
        self._wake.set()
        if self._subscription is not None:
            self._subscription.cancel()
        if self._thread is not None:
            self._thread.join(patience_s)

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    # ------------------------------------------------------------------------------------------ the loop

    def _run(self) -> None:
        while True:
            self._wake.clear()
            pause_s = self._round()
            if self._stopping.is_set():
                return
            self._wake.wait(pause_s)

    def _round(self) -> float | None:
        """Look once and do what is to be done; after how many seconds again. None: when woken."""
        try:
            if self._may_act():
                self._look()
        except StoreUnavailable as error:
            log.info("tasks_put_off", node=self._node, problem=error.problem)
            return RETRY_S
        except Conflict as conflict:
            log.info("decision_outdated", key=conflict.key, problem=conflict.problem)
            return 0.0
        except Exception:  # a node that begins no tasks any more would look alive
            log.exception("tasks_broke", node=self._node)
            return RETRY_S
        return WRITE_EVERY_S if self._running else None

    def _look(self) -> None:
        queue = task_changes.read_queue(self._store, self._node)
        ids = queue.value.tasks if queue else ()
        entries = self._store.get_many([layout.task(identity) for identity in ids]) if ids else {}
        tasks = _readable(entries)
        for identity in list(self._running):
            if self._settle(identity, tasks.get(identity), queue):
                return  # what was read is not the newest any more
        if queue is not None and (gone := [identity for identity in ids if layout.task(identity) not in entries]):
            self._write(task_changes.unqueue(queue, gone))
            return
        open_tasks = [tasks[identity].value for identity in ids if identity in tasks]
        resumable = {name: entry.resumable for name, entry in self._entries.items()}
        here = {identity: running.is_question for identity, running in self._running.items()}
        for action in decide(open_tasks, here, self._incarnation, resumable):
            if self._stopping.is_set():
                return
            if isinstance(action, EndTask):
                self._end(tasks[action.id], queue, Outcome(action.state, action.reason, {}))
                return
            self._begin(action, tasks[action.id])

    # -------------------------------------------------------------------------------------- those that run

    def _settle(self, identity: str, stored: Stored[TaskRecord] | None, queue: Stored[TaskQueue] | None) -> bool:
        """Write what has become of a task that runs here, or how far it is. Whether it has ended."""
        running = self._running[identity]
        outcome, progress = running.outcome, running.progress
        if stored is None:  # it was called off past this daemon, or the answer to what ended it was lost
            running.is_cancelling = True
            if outcome is not None:
                log.info("task_ended_before", node=self._node, task=identity, state=outcome.state.value)
                del self._running[identity]
            return False
        running.is_cancelling = stored.value.cancelling
        if outcome is not None:
            self._end(stored, queue, outcome, **progress)
            del self._running[identity]
            return True
        if progress != running.written:
            record = msgspec.structs.replace(stored.value, **progress)
            self._store.transaction([Set(stored.key, encode(record, stored.data), stored.version)])
            running.written = progress
        return False

    def _end(
        self, stored: Stored[TaskRecord], queue: Stored[TaskQueue] | None, outcome: Outcome, **progress: Any
    ) -> None:
        now = self._clock.utc_iso()
        change = task_changes.end(stored, queue, outcome.state, outcome.reason, now, outcome.result, **progress)
        self._write(change)
        log.info("task_ended", node=self._node, task=stored.value.id, state=outcome.state.value, reason=outcome.reason)

    def _write(self, change: Change) -> None:
        self._journal.commit(self._store, change.ops, change.happenings)
        self._wake.set()

    # --------------------------------------------------------------------------------------------- beginning

    def _begin(self, action: BeginTask, stored: Stored[TaskRecord]) -> None:
        task = stored.value
        entry = self._entries[task.kind]
        request = TaskRequest(self._node, task.parameters, self._options(entry.plugin), action.resumed)
        self._store.transaction([task_changes.begin(stored, self._incarnation, action.reason, self._clock.utc_iso())])
        log.info("task_begun", node=self._node, task=task.id, kind=task.kind, reason=action.reason)
        running = self._running[task.id] = Running(task.question)
        try:
            self._threads.start(f"task-{task.kind}", partial(self._carry_out, entry, request, running))
        except RuntimeError as error:
            running.outcome = Outcome(TaskState.FAILED, f"there is no thread for it: {error}", {})

    def _carry_out(self, entry: NodeTaskEntry, request: TaskRequest, running: Running) -> None:
        running.outcome = _outcome(entry, request, running)
        self._wake.set()


def _readable(entries: Mapping[str, Entry]) -> dict[str, Stored[TaskRecord]]:
    """Those that parse, by id."""
    found: dict[str, Stored[TaskRecord]] = {}
    for key, entry in entries.items():
        try:
            found[layout.name_in(key)] = decode(entry, TaskRecord)
        except BrokenRecord as broken:
            log.error("record_broken", key=key, problem=broken.problem)
    return found


def _outcome(entry: NodeTaskEntry, request: TaskRequest, running: Running) -> Outcome:
    """Do it. Whatever the plugin raises is the reason why it has failed."""
    plugin = entry.plugin or entry.name

    def run() -> Outcome:
        try:
            result = checked_json("result", entry.run(request, running.report))
        except TaskCancelled:
            return Outcome(TaskState.CANCELLED, "called off", {})
        except PluginError:
            raise
        except PvcError as refusal:  # an answer, such as "the device is in use", and no failure of the plugin
            return Outcome(TaskState.FAILED, refusal.sentence(), {})
        return Outcome(TaskState.DONE, "done", result)

    try:
        return ask_here(plugin, run)
    except PluginError as failure:
        log.warning("task_broke", task=entry.name, plugin=plugin, problem=failure.problem, exc_info=failure.__cause__)
        return Outcome(TaskState.FAILED, failure.sentence(), {})
    except KeyboardInterrupt:  # raised by the plugin itself: a person's arrives on the main thread
        return Outcome(TaskState.FAILED, f"plugin {plugin}: KeyboardInterrupt", {})
