# SPDX-License-Identifier: Apache-2.0
"""membership: this node is in the store: its record, and while the daemon lives, its ephemeral member key.

The member key is the node's life sign: it belongs to the store's session, so no wall clock is ever compared.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from pvc_core import host_shutdown, layout, leader_fence
from pvc_core.codec import Stored, decode, encode
from pvc_core.errors import BrokenRecord, Conflict, Refused, StoreUnavailable
from pvc_core.events import EventKind, Happening, of_node
from pvc_core.journal import Journal
from pvc_core.model import Member, NodeRecord
from pvc_core.ports import Clock, ClusterStore, Create, Delete, Entry, Op, SessionState, Set, Threads

log = structlog.get_logger(__name__)
ATTEMPTS = 20
_Steps = tuple[list[Op], list[Happening]]
_StepsFor = Callable[[Entry | None, Entry | None], _Steps]


def host_identity() -> str:
    """Names this running host: its name and its kernel's boot."""
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    return f"{platform.node()}/{boot_id.read_text().strip() if boot_id.exists() else os.getppid()}"


class Membership:
    """Keeps the node registered in the current session, and registers again in each new one."""

    def __init__(
        self,
        store: ClusterStore,
        clock: Clock,
        node: NodeRecord,
        member: Member,
        journal: Journal,
        threads: Threads,
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._node = node
        self._member = member
        self._session = ""
        self._watchdog_s = 0.0
        self._lock = threads.lock()

    def is_registered(self) -> bool:
        """Whether this daemon may act: connected, and registered in this very session."""
        connected = self._store.session_state is SessionState.CONNECTED
        return connected and self._session != "" and self._session == self._store.session_id

    def register(self) -> None:
        """Register in the current session. Raises `Refused` when another host has this name, `StoreUnavailable`."""
        with self._lock:
            if self.is_registered():
                return
            session = self._store.session_id
            self._change(lambda node, member: self._joining(node, member, session))
            self._session = session
        log.info("node_registered", node=self._node.name, session=session)

    def promise(self, watchdog_s: float, reason: str) -> None:
        """Say in the record what this node's watchdog sees to (`self_fence`). Raises `StoreUnavailable`, `Refused`.

        The reason belongs to the event. Whether or not it could be written, the next registration says the same.
        """
        with self._lock:
            self._watchdog_s = watchdog_s
            if not self.is_registered():
                raise Refused(self._node.name, "it is not registered")
            self._change(lambda node, member: self._promising(node, watchdog_s, reason))
        log.info("watchdog_promised", node=self._node.name, watchdog_s=watchdog_s, reason=reason)

    def promise_nothing(self) -> None:
        """From the next registration on the record says that no watchdog is armed."""
        self._watchdog_s = 0.0

    def leave(self) -> None:
        """Say in the record that the daemon stops on purpose; its guests run on."""
        with self._lock:
            self._session = ""
            self._watchdog_s = 0.0
            self._change(self._leaving)
        log.info("node_left", node=self._node.name)

    def _change(self, steps_for: _StepsFor) -> None:
        node_key, member_key = layout.node(self._node.name), layout.member(self._node.name)
        for _ in range(ATTEMPTS):
            entries = self._store.get_many([node_key, member_key])
            ops, happenings = steps_for(entries.get(node_key), entries.get(member_key))
            try:
                self._journal.commit(self._store, ops, happenings)
            except Conflict as conflict:
                log.debug("registration_conflict", key=conflict.key, problem=conflict.problem)
                continue
            return
        raise StoreUnavailable(f"{node_key} keeps changing")

    def _joining(self, node: Entry | None, member: Entry | None, session: str) -> _Steps:
        ops: list[Op] = []
        if member is not None:
            self._refuse_foreign(member)
            ops.append(Delete(member.key, member.version))
        ours = msgspec.structs.replace(self._member, session=session, started_at=self._clock.utc_iso())
        ops.append(Create(layout.member(ours.node), encode(ours), ephemeral=True))
        reason = f"its daemon {self._member.version} is there"
        if node is None:
            new = msgspec.structs.replace(self._node, watchdog_s=self._watchdog_s, session=session)
            ops.append(Create(layout.node(new.name), encode(new)))
            return ops, [of_node(EventKind.NODE_JOINED, None, new, f"{reason} for the first time")]
        stored = self._node_record(node)
        there = msgspec.structs.replace(self._configured(stored.value, left=False), session=session)
        joined = leader_fence.returned(there, self._clock.utc_iso())
        ops.append(Set(node.key, encode(joined, stored.data), node.version))
        happenings = [of_node(EventKind.NODE_JOINED, stored.value, joined, f"{reason} again")]
        if joined.fence != stored.value.fence:
            ended = of_node(EventKind.NODE_FENCE_ENDED, joined, joined, "its daemon is there again")
            happenings.append(ended)
        return ops, happenings

    def _leaving(self, node: Entry | None, member: Entry | None) -> _Steps:
        ops: list[Op] = []
        happenings: list[Happening] = []
        if node is not None:
            stored = self._node_record(node)
            left = self._configured(stored.value, left=True)
            left = host_shutdown.has_left(left, left.session, self._clock.utc_iso())
            ops.append(Set(node.key, encode(left, stored.data), node.version))
            happenings.append(of_node(EventKind.NODE_LEFT, stored.value, left, "its daemon stops; its guests run on"))
        if member is not None:
            ops.append(Delete(member.key, member.version))
        return ops, happenings

    def _promising(self, node: Entry | None, watchdog_s: float, reason: str) -> _Steps:
        if node is None:
            raise Refused(self._node.name, "its record is gone")
        stored = self._node_record(node)
        after = msgspec.structs.replace(stored.value, watchdog_s=watchdog_s)
        kind = EventKind.NODE_WATCHDOG_ARMED if watchdog_s else EventKind.NODE_WATCHDOG_DISARMED
        return [Set(node.key, encode(after, stored.data), node.version)], [of_node(kind, stored.value, after, reason)]

    def _configured(self, record: NodeRecord, *, left: bool) -> NodeRecord:
        """The node's record with what this machine itself knows of it; mode and drain stay."""
        ours = self._node
        return msgspec.structs.replace(
            record,
            left=left,
            coordinator=ours.coordinator,
            labels=ours.labels,
            address=ours.address,
            watchdog_s=self._watchdog_s,
        )

    def _node_record(self, entry: Entry) -> Stored[NodeRecord]:
        try:
            return decode(entry, NodeRecord)
        except BrokenRecord as broken:
            log.error("record_broken", key=entry.key, problem=broken.problem)
            raise

    def _refuse_foreign(self, entry: Entry) -> None:
        """A member of this name from this host is our own, earlier life; from another host it is a mistake."""
        other = decode(entry, Member)
        if other.value.host != self._member.host:
            raise Refused(
                self._node.name, f"a daemon on host {other.value.host} is registered under this name; choose another"
            )
