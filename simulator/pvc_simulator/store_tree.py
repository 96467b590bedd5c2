# SPDX-License-Identifier: Apache-2.0
"""store_tree: the values of the simulated store, and what a transaction does to them: all or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pvc_core.errors import Conflict
from pvc_core.ports import Check, Create, Delete, Entry, Op, Set
from pvc_core.store_keys import ROOT, parent_of
from pvc_core.store_renaming import Node
from pvc_core.store_watching import Stamped


@dataclass(frozen=True, slots=True)
class _Kept:
    data: bytes
    version: int
    owner: str
    stamp: int


class StoreTree:
    """Keys with values, versions and owners (the session of an ephemeral, else "")."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._children: dict[str, dict[str, None]] = {ROOT: {}}
        self._stamp = 0

    def stamped(self, key: str) -> Stamped | None:
        """A key's entry, with a stamp that no other write ever has."""
        kept = self._kept.get(key)
        return Stamped(Entry(key, kept.data, kept.version), kept.stamp) if kept else None

    def child_keys(self, parent: str) -> list[str]:
        """The keys right below, sorted."""
        return sorted(self._children.get(parent, ()))

    def nodes(self, keys: Sequence[str]) -> list[tuple[Node, list[str]]]:
        """The keys as they are, each with the keys right below. Raises `Conflict` for the first that is missing."""
        found = []
        for key in keys:
            kept = self._kept.get(key)
            if kept is None:
                raise Conflict(key, "does not exist")
            found.append((Node(key, kept.data, kept.version, kept.owner), self.child_keys(key)))
        return found

    def apply(self, ops: Sequence[Op], session_id: str) -> tuple[int, ...]:
        """Do it all. The versions afterwards; raises `Conflict` for the first that does not hold, and undoes it all."""
        undo: list[tuple[str, _Kept | None]] = []
        try:
            return tuple(self._apply(op, session_id, undo) for op in ops)
        except Conflict:
            for key, before in reversed(undo):
                self._put(key, before)
            raise

    def drop_owned(self, session_id: str) -> list[str]:
        """Delete the ephemerals of a session. Their keys."""
        owned = [key for key, kept in self._kept.items() if kept.owner == session_id]
        for key in owned:
            self._put(key, None)
        return owned

    def _apply(self, op: Op, session_id: str, undo: list[tuple[str, _Kept | None]]) -> int:
        before = self._kept.get(op.key)
        if isinstance(op, Create):
            self._check_creation(op.key, before)
            version, after = 0, _Kept(op.data, 0, session_id if op.ephemeral else "", self._next_stamp())
            undo.append((op.key, None))
            self._put(op.key, after)
            return version
        if before is None:
            raise Conflict(op.key, "does not exist")
        if before.version != op.version:
            raise Conflict(op.key, "changed since it was read")
        if isinstance(op, Check):
            return op.version
        if isinstance(op, Delete) and self._children.get(op.key):
            raise Conflict(op.key, "has children")
        undo.append((op.key, before))
        if isinstance(op, Set):
            self._put(op.key, _Kept(op.data, op.version + 1, before.owner, self._next_stamp()))
            return op.version + 1
        self._put(op.key, None)
        return -1

    def _check_creation(self, key: str, before: _Kept | None) -> None:
        parent = parent_of(key)
        if parent != ROOT:
            above = self._kept.get(parent)
            if above is None:
                raise Conflict(key, "has no parent")
            if above.owner:
                raise Conflict(key, "lies below an ephemeral key")
        if before is not None:
            raise Conflict(key, "exists already")

    def _put(self, key: str, kept: _Kept | None) -> None:
        siblings = self._children.setdefault(parent_of(key), {})
        if kept is None:
            self._kept.pop(key, None)
            siblings.pop(key, None)
        else:
            self._kept[key] = kept
            siblings[key] = None

    def _next_stamp(self) -> int:
        self._stamp += 1
        return self._stamp
