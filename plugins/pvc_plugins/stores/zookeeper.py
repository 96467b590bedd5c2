# SPDX-License-Identifier: Apache-2.0
"""zookeeper: the cluster's store, on ZooKeeper: `zookeeper://host1:2181,host2,host3/chroot?options`.

What it adds to kazoo: a failed transaction raises and says which key failed; nothing over the size limit is
sent; nothing waits for ever; watches outlive the loss of connection and session; listeners run on threads of
their own and may call the store.

Known limit: versions start again at 0 when a key is deleted and created again. A transaction that read the
first key holds on the second one when their versions happen to be equal; ZooKeeper offers no check of the
creation itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)

from pvc_core.errors import Conflict, StoreUnavailable
from pvc_core.ports import Check, Create, Delete, Entry, Op, SessionState, Set, Subscription
from pvc_core.store_keys import OP_OVERHEAD_BYTES, check_key, check_ops, check_parent, with_parents
from pvc_core.store_listening import SessionStates
from pvc_core.store_renaming import Node, check_names, rename_ops
from pvc_plugins.stores.zookeeper_options import parse_address
from pvc_plugins.stores.zookeeper_reads import ZooKeeperReads
from pvc_plugins.stores.zookeeper_session import Send, ZooKeeperSession

_PROBLEMS: dict[type[Exception], str] = {
    NoNodeError: "does not exist",
    NodeExistsError: "exists already",
    BadVersionError: "changed since it was read",
    NotEmptyError: "has children",
    NoChildrenForEphemeralsError: "lies below an ephemeral key",
}
_FRAMING_BYTES = 48  # per operation, of which the ACL "anyone" takes 27
_DIGEST_ACL_BYTES = 64


class ZooKeeperStore:
    """A session with a ZooKeeper ensemble. Implements `pvc_core.ports.ClusterStore`."""

    def __init__(self, url: str) -> None:
        """Does not connect yet. Raises `InvalidInput` for a URL that cannot be one."""
        address = parse_address(url)
        self._chroot = address.chroot
        acl_bytes = _DIGEST_ACL_BYTES + len(address.options.user.encode()) if address.options.user else 0
        self._op_overhead_bytes = max(OP_OVERHEAD_BYTES, _FRAMING_BYTES + acl_bytes + len(self._chroot.encode()))
        self._states = SessionStates()
        self._session = ZooKeeperSession(address, self._states, self._on_connected)
        self._reads = ZooKeeperReads(self._session, self._chroot)

    def start(self) -> None:
        if self._session.is_started:
            return
        self._states.start()
        self._session.start()
        try:
            self._create_missing(with_parents([self._chroot]))
        except (StoreUnavailable, Conflict):
            self._session.end()
            raise
        self._reads.engine.start()

    def close(self) -> None:
        self._session.close()
        self._reads.engine.close()
        self._states.close()

    @property
    def session_state(self) -> SessionState:
        return self._states.state

    @property
    def session_id(self) -> str:
        return self._session.session_id

    @property
    def client_id(self) -> tuple[int, bytes] | None:
        """ZooKeeper's ID and password of the session, None when not connected. Whoever has them can end it."""
        return self._session.client_id

    def add_session_listener(self, listener: Callable[[SessionState], None]) -> Subscription:
        return self._states.add_listener(listener)

    def ensure(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        self._create_missing([self._reads.path(key) for key in with_parents(keys)])

    def get(self, key: str) -> Entry | None:
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        for key in keys:
            check_key(key)
        return {key: found.entry for key, found in self._reads.get_many(keys).items()} if keys else {}

    def children(self, key: str) -> tuple[str, ...]:
        check_parent(key)
        return tuple(sorted(self._reads.children(key)))

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        check_ops(ops, self._op_overhead_bytes)
        if not ops:
            return ()
        results = self._session.request(lambda client: self._commit(client, ops))
        failures = [(op, result) for op, result in zip(ops, results, strict=True) if isinstance(result, Exception)]
        if failures:
            raise _failure(failures)
        return tuple(_version_after(op, result) for op, result in zip(ops, results, strict=True))

    def rename(self, source: str, destination: str, also: Sequence[Op] = ()) -> None:
        check_names(source, destination)
        subtree = self.read_subtree(source)
        self.transaction(rename_ops(subtree, source, destination, also, self.session_id))

    def read_subtree(self, key: str) -> list[Node]:
        """What `rename` is going to replace. Apart, so that a test can change something right after it."""
        return self._reads.subtree(key)

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        check_key(key)
        return self._reads.engine.watch(key, listener)

    def mirror(self, parent: str, listener: Callable[[Mapping[str, Entry | None]], None]) -> Subscription:
        check_parent(parent)
        return self._reads.engine.mirror(parent, listener)

    def _on_connected(self) -> None:
        self._reads.engine.everything_changed()  # ZooKeeper's watches ended with the connection before

    def _create_missing(self, paths: Sequence[str]) -> None:
        """Create paths given parents first. One round trip when none is missing."""
        missing = self._reads.missing(paths)
        for path, answer in zip(missing, self._session.pipeline([_create(path) for path in missing]), strict=True):
            if isinstance(answer, Exception) and not isinstance(answer, NodeExistsError):
                raise Conflict(path[len(self._chroot) :] or path, _PROBLEMS[type(answer)]) from answer

    def _commit(self, client: KazooClient, ops: Sequence[Op]) -> Any:
        request = client.transaction()
        for op in ops:
            path = self._reads.path(op.key)
            match op:
                case Check():
                    request.check(path, op.version)
                case Create():
                    request.create(path, op.data, ephemeral=op.ephemeral)
                case Set():
                    request.set_data(path, op.data, op.version)
                case Delete():
                    request.delete(path, op.version)
        return request.commit_async()


def _failure(failures: Sequence[tuple[Op, Exception]]) -> Conflict | StoreUnavailable:
    """What a failed transaction means. One operation failed; the others' results are fillers that mean nothing."""
    fillers = (RolledBackError, RuntimeInconsistency)
    op, error = next((f for f in failures if not isinstance(f[1], fillers)), failures[0])
    problem = _PROBLEMS.get(type(error))
    if problem is None:
        return StoreUnavailable(f"{op.key}: {type(error).__name__}")
    return Conflict(op.key, "has no parent" if isinstance(op, Create) and isinstance(error, NoNodeError) else problem)


def _version_after(op: Op, result: Any) -> int:
    match op:
        case Create():
            return 0
        case Delete():
            return -1
        case Check():
            return op.version
    version: int = result.version
    return version


def _create(path: str) -> Send:
    return lambda client: client.create_async(path, b"")
