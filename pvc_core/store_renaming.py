# SPDX-License-Identifier: Apache-2.0
"""store_renaming: which operations replace a key and everything below it by another key, in one transaction.

Neither ZooKeeper nor SQL has such an operation. Every node is created anew and deleted under the version it
was read with, children before parents; so the transaction fails when a node changed (its version), when one
was added (its parent is not empty) and when one went away (nothing to delete).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pvc_core.errors import Conflict, InvalidInput
from pvc_core.ports import Check, Create, Delete, Op
from pvc_core.store_keys import check_key


@dataclass(frozen=True, slots=True)
class Node:
    """One key of the subtree as it was read; `owner` is the session of an ephemeral, else empty."""

    key: str
    data: bytes
    version: int
    owner: str = ""


def check_names(source: str, destination: str) -> None:
    """Raise `InvalidInput` unless `source` could become `destination`."""
    check_key(source)
    check_key(destination)
    if destination.startswith(f"{source}/"):
        raise InvalidInput("destination", f"lies below {source}, which is to be renamed", destination)


def rename_ops(subtree: Sequence[Node], source: str, destination: str, also: Sequence[Op], session_id: str) -> list[Op]:
    """The transaction for a subtree given parents first.

    Checks in `also` come first and so judge the state before the rename; its other operations come last and
    may already speak of the destination. An ephemeral of another session raises `Conflict`: only that session
    could create it again.
    """
    for node in subtree:
        if node.owner not in ("", session_id):
            raise Conflict(node.key, "is an ephemeral of another session")
    creates = [Create(destination + n.key[len(source) :], n.data, ephemeral=n.owner != "") for n in subtree]
    deletes = [Delete(n.key, n.version) for n in reversed(subtree)]
    before = [op for op in also if isinstance(op, Check)]
    after = [op for op in also if not isinstance(op, Check)]
    return [*before, *creates, *deletes, *after]
