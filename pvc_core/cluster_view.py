# SPDX-License-Identifier: Apache-2.0
"""cluster_view: the watched copy of the whole store, and the one way to commit a decision made on it.

The API and the leader read from here without a round trip. A commit is decided on this copy and carries the
versions it was decided from: being a moment behind costs a retry, never a wrong write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.codec import Stored, decode
from pvc_core.errors import BrokenRecord, Conflict, StoreUnavailable
from pvc_core.events import Event, Happening
from pvc_core.journal import Journal
from pvc_core.model import NodeRecord, NodeReport, Settings, VmRecord
from pvc_core.ports import Check, Clock, ClusterStore, Delete, Entry, Op, SessionState, Subscription, Threads
from pvc_core.rule_guards import guarded_by_rules
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_core.vm_groups import VmGroups
from pvc_core.watched_records import KINDS, SINGLE_KINDS, is_routine

log = structlog.get_logger(__name__)

COMMIT_ATTEMPTS = 100
AGES_HOLD_S = 1.0
REFRESH_ATTEMPTS = 3


class ClusterView:
    """A copy of nodes, ledgers, reports, members, VMs, rules and what there is one of, kept up to date. Thread-safe."""

    def __init__(
        self,
        store: ClusterStore,
        clock: Clock,
        journal: Journal | None = None,
        threads: Threads = SYSTEM_THREADS,
    ) -> None:
        """`journal` writes the events of what is committed here; without one they have no author."""
        self._store = store
        self._clock = clock
        self._journal = journal or Journal(clock)
        self._changed = threads.condition()
        self._records: dict[str, dict[str, Stored[Any]]] = {parent: {} for parent in KINDS}
        self._singles: dict[str, Stored[Any] | None] = dict.fromkeys(SINGLE_KINDS)
        self._groups = VmGroups({})
        self._changed_vms: set[str] = set()
        """By UUID, since the latest snapshot was built."""
        self._rules_version = -1
        self._broken: dict[str, BrokenRecord] = {}
        self._report_seen_s: dict[str, float] = {}
        self._ahead: dict[str, Entry | None] = {}
        """What this process wrote or read itself (None: deleted), until a watch, which may lag, tells the same."""
        self._generation = 0
        self._news = 0
        self._built: tuple[int, ClusterSnapshot] | None = None
        self._aged: tuple[ClusterSnapshot, float, ClusterSnapshot] | None = None
        self._subscriptions: list[Subscription] = []

    def start(self) -> None:
        """Read everything once and keep watching. Raises `StoreUnavailable`."""
        self._store.ensure(layout.DIRECTORIES)
        rules = self._store.get(layout.RULES)
        self._rules_version = rules.version if rules else -1
        self._subscriptions.append(self._store.add_session_listener(lambda _state: self.wake()))
        for parent in KINDS:
            self._subscriptions.append(self._store.mirror(parent, self._absorb_watched))
        self._subscriptions.append(self._store.watch(layout.RULES, self._absorb_rules_version))
        for key in SINGLE_KINDS:
            self._subscriptions.append(self._store.watch(key, partial(self._absorb_single, key)))

    def close(self) -> None:
        """Stop watching. The store stays open: it is not ours."""
        for subscription in self._subscriptions:
            subscription.cancel()
        self._subscriptions.clear()

    # ------------------------------------------------------------------------------------------ reading

    @property
    def generation(self) -> int:
        """Grows with every change of the copy."""
        return self._generation

    def snapshot(self) -> ClusterSnapshot:
        """The cluster as last seen. Raises `StoreUnavailable` while the session is not connected."""
        if self._store.session_state is not SessionState.CONNECTED:
            raise StoreUnavailable(f"the session is {self._store.session_state.value}")
        with self._changed:
            if self._built is None or self._built[0] != self._generation:
                self._built = (self._generation, self._build())
            snapshot = self._built[1]
        return self._with_report_ages(snapshot)

    def wait_for(self, predicate: Callable[[ClusterSnapshot], bool], timeout_s: float) -> bool:
        """Whether the predicate became true within the time; asked again after every change."""
        deadline = self._clock.monotonic_s() + timeout_s
        while True:
            seen = self._generation
            if predicate(self.snapshot()):
                return True
            left_s = deadline - self._clock.monotonic_s()
            if left_s <= 0:
                return False
            with self._changed:
                self._changed.wait(left_s if self._generation == seen else 0)

    def wait_news(self, seen: int, timeout_s: float) -> int:
        """Wait until there is news, which routine reports are not, or the time is over; a number to wait with again."""
        with self._changed:
            self._changed.wait_for(lambda: self._news != seen, timeout_s)
            return self._news

    def wake(self) -> None:
        """Let those who wait for a change look again."""
        with self._changed:
            self._bump()

    @property
    def settings(self) -> Settings:
        """The cluster's settings as last seen, also while the store is away."""
        stored = self._singles[layout.SETTINGS]
        return stored.value if stored else Settings()

    # --------------------------------------------------------------------------------------- committing

    def commit(self, decide: Callable[[ClusterSnapshot], Change]) -> Change:
        """Decide on the snapshot and write the decision in one transaction; on a conflict, read and decide again.

        That nothing is to be done is looked up in the same way. Raises what `decide` raises, the error a change names
        for a conflict on a certain key, and `Conflict` when the same decision keeps losing.
        """
        for attempt in range(COMMIT_ATTEMPTS):
            snapshot = self.snapshot()
            guarded = guarded_by_rules(decide(snapshot), snapshot)
            if guarded.unseen and self._has_news_of(guarded.unseen, snapshot):
                continue
            change = guarded.change
            ops = change.ops or change.seen
            if not ops:
                return change
            try:
                self._write(ops, change)
            except Conflict as conflict:
                if conflict.key in change.on_conflict:
                    raise change.on_conflict[conflict.key] from conflict
                if attempt == COMMIT_ATTEMPTS - 1:
                    raise
                self._refresh_after(conflict, ops)
                continue
            return change
        raise Conflict(layout.RULES, "is about VMs that keep changing")

    def try_commit(self, change: Change, snapshot: ClusterSnapshot) -> bool:
        """Write a change decided elsewhere, on this snapshot; False when that was old data, which is then read anew."""
        guarded = guarded_by_rules(change, snapshot)
        if guarded.unseen and self._has_news_of(guarded.unseen, snapshot):
            return False
        change = guarded.change
        try:
            self._write(change.ops, change)
        except Conflict as conflict:
            log.info("decision_outdated", key=conflict.key, problem=conflict.problem)
            self._refresh_after(conflict, change.ops)
            return False
        return True

    def _write(self, ops: tuple[Op, ...], change: Change) -> None:
        """One transaction with the events of what it changes."""
        written = self._journal.written(change.happenings if change.ops else ())
        versions = self._store.transaction((*ops, *(each.op for each in written)))
        self._absorb_own(ops, versions[: len(ops)])
        self._journal.tell(written)

    def note(self, happening: Happening) -> Event:
        """Write an event of what changes no record. Raises `StoreUnavailable`."""
        return self._journal.note(self._store, happening)

    def _has_news_of(self, keys: Sequence[str], snapshot: ClusterSnapshot) -> bool:
        """Read these VMs past the watches; whether any is another than in the snapshot that was decided on.

        Not than what is known by now: a watch may have told of it since.
        """
        self.refresh([*keys])
        seen = {key: snapshot.vms.get(layout.name_in(key)) for key in keys}
        return any(self._version_of(key) != (stored.version if stored else None) for key, stored in seen.items())

    def _refresh_after(self, conflict: Conflict, ops: Iterable[Op]) -> None:
        """What the transaction was about; all the rules only if it was they that had changed."""
        self.refresh([op.key for op in ops if op.key != layout.RULES or conflict.key == layout.RULES])

    def refresh(self, keys: list[str]) -> None:
        """Read the keys anew from the store, past the watches; where something came in meanwhile, once more."""
        wanted = [key for key in keys if self._is_mirrored(key)]
        if layout.RULES in keys:
            self._read_rules()
        for _ in range(REFRESH_ATTEMPTS):
            with self._changed:
                before = {key: self._known(key) for key in wanted}
            found = self._store.get_many(wanted)
            with self._changed:
                outrun = [key for key in wanted if self._known(key) is not before[key]]
                for key in wanted:
                    if key not in outrun:
                        self._take_over(key, found.get(key))
                self._bump()
            if not outrun:
                return
            wanted = outrun

    def _read_rules(self) -> None:
        """All rules anew, and the VMs that were placed without knowing them: only then their version is believed."""
        version = self._store.get(layout.RULES)
        for parent in (layout.RULES, layout.VMS):
            with self._changed:
                known = set(self._records[parent])
            self.refresh([f"{parent}/{name}" for name in sorted(known.union(self._store.children(parent)))])
        with self._changed:
            self._rules_version = version.version if version else -1
            self._bump()

    def _absorb_rules_version(self, entry: Entry | None) -> None:
        """A watch tells that a rule was added, changed or removed; the one on the rules themselves may tell later."""
        if entry is not None and entry.version == self._rules_version:
            return
        try:
            self._read_rules()
        except StoreUnavailable as error:
            log.info("watch_in_doubt", keys=[layout.RULES], problem=error.problem)

    # ---------------------------------------------------------------------------------------- absorbing

    @staticmethod
    def _parent(key: str) -> str:
        return key.rpartition("/")[0]

    def _bump(self, *, is_news: bool = True) -> None:
        self._generation += 1
        self._news += is_news
        self._changed.notify_all()

    def _absorb_single(self, key: str, entry: Entry | None) -> None:
        self._absorb_watched({key: entry})

    def _absorb_watched(self, entries: Mapping[str, Entry | None]) -> None:
        doubtful, is_news = [], False
        with self._changed:
            for key, entry in entries.items():
                before = self._known(key)
                if key in self._ahead and not _confirms(entry, self._ahead[key]):
                    doubtful.append(key)
                    continue
                self._ahead.pop(key, None)
                self._absorb(key, entry)
                is_news = is_news or not is_routine(before, self._known(key))
            self._bump(is_news=is_news)
        if doubtful:
            self._settle(doubtful, entries)

    def _settle(self, keys: list[str], told: Mapping[str, Entry | None]) -> None:
        """A watch tells something else than what is known: it lags behind, or the key was deleted and made anew."""
        try:
            self.refresh(keys)
        except StoreUnavailable as error:
            log.info("watch_in_doubt", keys=keys, problem=error.problem)
            with self._changed:
                for key in keys:
                    self._ahead.pop(key, None)
                    self._absorb(key, told[key])
                self._bump()

    def _absorb_own(self, ops: tuple[Op, ...], versions: tuple[int, ...]) -> None:
        """Take over what this process has just written, before any watch tells."""
        with self._changed:
            for op, version in zip(ops, versions, strict=True):
                if isinstance(op, Check) or not self._is_mirrored(op.key):
                    continue
                current = self._version_of(op.key)
                if isinstance(op, Delete):
                    self._take_over(op.key, None)
                elif current is None or version >= current:
                    self._take_over(op.key, Entry(op.key, op.data, version))
            self._bump()

    def _is_mirrored(self, key: str) -> bool:
        return key in SINGLE_KINDS or self._parent(key) in KINDS

    def _take_over(self, key: str, entry: Entry | None) -> None:
        """Believe what was written or read by this process, until a watch confirms it."""
        self._ahead[key] = entry
        self._absorb(key, entry)

    def _known(self, key: str) -> object:
        """What is held of a key; the very same object as long as nothing about it has come in."""
        if key in self._broken:
            return self._broken[key]
        if key in SINGLE_KINDS:
            return self._singles[key]
        return self._records[self._parent(key)].get(layout.name_in(key))

    def _version_of(self, key: str) -> int | None:
        stored = self._singles.get(key) or self._records.get(self._parent(key), {}).get(layout.name_in(key))
        return stored.version if stored else None

    def _absorb(self, key: str, entry: Entry | None) -> None:
        if key in SINGLE_KINDS:
            self._singles[key] = self._decode(key, entry if entry and entry.data else None, SINGLE_KINDS[key])
            return
        kind, records, name = KINDS[self._parent(key)], self._records[self._parent(key)], layout.name_in(key)
        stored = self._decode(key, entry, kind)
        if kind is VmRecord:
            self._changed_vms.add(name)
        if stored is None:
            records.pop(name, None)
        else:
            records[name] = stored
        if kind is NodeReport:
            self._report_seen_s[name] = self._clock.monotonic_s()

    def _decode(self, key: str, entry: Entry | None, kind: type[Any]) -> Stored[Any] | None:
        """The record; None when there is none, or one that does not parse, which is then kept as broken."""
        problem_before = self._broken.pop(key, None)
        if entry is None:
            return None
        try:
            return decode(entry, kind)
        except BrokenRecord as broken:
            if problem_before is None:
                log.warning("record_broken", key=key, problem=broken.problem)
            self._broken[key] = broken
            return None

    # ----------------------------------------------------------------------------------------- building

    def _build(self) -> ClusterSnapshot:
        records, settings = self._records, self._singles[layout.SETTINGS]
        if self._changed_vms:
            self._groups = self._groups.after(dict(records[layout.VMS]), self._changed_vms)
            self._changed_vms.clear()
        nodes = {name: self._node(name, record) for name, record in sorted(records[layout.NODES].items())}
        return ClusterSnapshot(
            nodes=nodes,
            vms=self._groups.vms,
            grouped=self._groups,
            rules=dict(sorted(records[layout.RULES].items())),
            rules_version=self._rules_version,
            plan=self._singles[layout.PLAN],
            maintenance=self._singles[layout.MAINTENANCE],
            settings=settings.value if settings else Settings(),
            settings_version=settings.version if settings else -1,
            settings_data=settings.data if settings else b"",
            broken=dict(self._broken),
        )

    def _node(self, name: str, record: Stored[NodeRecord]) -> NodeView:
        """The node; the very same object as in the snapshot before if nothing of it has changed."""
        before = self._built[1].nodes.get(name) if self._built else None
        ledger = self._records[layout.LEDGERS].get(name)
        report = self._records[layout.REPORTS].get(name)
        member = self._records[layout.MEMBERS].get(name)
        if (
            before is not None
            and before.record is record
            and before.ledger is ledger
            and before.report is report
            and before.member is member
        ):
            return before
        return NodeView(record=record, ledger=ledger, report=report, member=member)

    def _with_report_ages(self, snapshot: ClusterSnapshot) -> ClusterSnapshot:
        """Ages grow without any change of the store; nodes whose report is overdue are rebuilt, once a second."""
        now_s = self._clock.monotonic_s()
        aged = self._aged
        if aged is not None and aged[0] is snapshot and now_s < aged[1] + AGES_HOLD_S:
            return aged[2]
        stale_s = snapshot.settings.report_stale_s
        overdue = {
            name: replace(node, report_age_s=now_s - self._report_seen_s.get(name, now_s))
            for name, node in snapshot.nodes.items()
            if node.report and now_s - self._report_seen_s.get(name, now_s) > stale_s
        }
        result = replace(snapshot, nodes={**snapshot.nodes, **overdue}) if overdue else snapshot
        self._aged = (snapshot, now_s, result)
        return result


def _confirms(told: Entry | None, known: Entry | None) -> bool:
    """Whether a watch has caught up with what is known, or is beyond it."""
    return told == known or (told is not None and known is not None and told.version > known.version)
