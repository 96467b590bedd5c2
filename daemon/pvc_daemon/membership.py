# SPDX-License-Identifier: Apache-2.0
"""membership: this node is in the store: its record, and while the daemon lives, its ephemeral member key.

The member key is the node's life sign: it belongs to the store's session, so no wall clock is ever compared.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from pvc_core import layout
from pvc_core.codec import Stored, decode, encode
from pvc_core.errors import BrokenRecord, Conflict, Refused, StoreUnavailable
from pvc_core.model import Member, NodeRecord
from pvc_core.ports import Clock, ClusterStore, Create, Delete, Entry, Op, SessionState, Set

log = structlog.get_logger(__name__)
ATTEMPTS = 20
_OpsFor = Callable[[Entry | None, Entry | None], list[Op]]


def host_identity() -> str:
    """Names this running host: its name and its kernel's boot."""
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    return f"{platform.node()}/{boot_id.read_text().strip() if boot_id.exists() else os.getppid()}"


class Membership:
    """Keeps the node registered in the current session, and registers again in each new one."""

    def __init__(self, store: ClusterStore, clock: Clock, node: NodeRecord, member: Member) -> None:
        self._store = store
        self._clock = clock
        self._node = node
        self._member = member
        self._session = ""
        self._lock = threading.Lock()

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

    def leave(self) -> None:
        """Say in the record that the daemon stops on purpose; its guests run on."""
        with self._lock:
            self._session = ""
            self._change(self._leaving)
        log.info("node_left", node=self._node.name)

    def _change(self, ops_for: _OpsFor) -> None:
        node_key, member_key = layout.node(self._node.name), layout.member(self._node.name)
        for _ in range(ATTEMPTS):
            entries = self._store.get_many([node_key, member_key])
            try:
                self._store.transaction(ops_for(entries.get(node_key), entries.get(member_key)))
                return
            except Conflict as conflict:
                log.debug("registration_conflict", key=conflict.key, problem=conflict.problem)
        raise StoreUnavailable(f"{node_key} keeps changing")

    def _joining(self, node: Entry | None, member: Entry | None, session: str) -> list[Op]:
        ops: list[Op] = []
        if member is not None:
            self._refuse_foreign(member)
            ops.append(Delete(member.key, member.version))
        ours = msgspec.structs.replace(self._member, session=session, started_at=self._clock.utc_iso())
        ops.append(Create(layout.member(ours.node), encode(ours), ephemeral=True))
        if node is None:
            ops.append(Create(layout.node(self._node.name), encode(self._node)))
        else:
            ops.append(self._rewritten(node, left=False))
        return ops

    def _leaving(self, node: Entry | None, member: Entry | None) -> list[Op]:
        ops: list[Op] = [self._rewritten(node, left=True)] if node is not None else []
        if member is not None:
            ops.append(Delete(member.key, member.version))
        return ops

    def _rewritten(self, entry: Entry, *, left: bool) -> Set:
        """The node's record with what this machine's configuration says of it; mode and drain stay."""
        stored = self._node_record(entry)
        ours = self._node
        record = msgspec.structs.replace(
            stored.value, left=left, coordinator=ours.coordinator, labels=ours.labels, address=ours.address
        )
        return Set(entry.key, encode(record, stored.data), entry.version)

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
