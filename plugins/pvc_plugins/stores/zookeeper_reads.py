# SPDX-License-Identifier: Apache-2.0
"""zookeeper_reads: reads that are current, and reads that leave a watch behind.

A follower may lag behind what other clients have written through another server. `sync` makes it catch up; it
goes out right before the read, in the same round trip. (One gap is ZooKeeper's own: on the leader `sync` does
nothing, and for a fraction of a millisecond a follower may have applied a write that the leader is about to
apply. Seen once in 2500 reads that followed a write immediately; decisions are safe, they check versions.)

ZooKeeper's watches fire once and are re-armed by the read that the event causes, so what changes between event
and read is seen by the read. One function watches every path: kazoo keeps watchers in sets, so a watch cancelled
and set again a thousand times leaves one behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import EventType, WatchedEvent

from pvc_core.errors import Conflict
from pvc_core.ports import Entry
from pvc_core.store_keys import ROOT, child_of
from pvc_core.store_renaming import Node
from pvc_core.store_watching import Stamped, WatchEngine
from pvc_plugins.stores.zookeeper_session import Send, ZooKeeperSession


class ZooKeeperReads:
    """Everything the store reads. Keys are under the chroot, paths are ZooKeeper's."""

    def __init__(self, session: ZooKeeperSession, chroot: str) -> None:
        self._session = session
        self._chroot = chroot
        self.engine = WatchEngine(self)

    def path(self, key: str) -> str:
        """ZooKeeper's path of a key."""
        return self._chroot if key == ROOT else self._chroot + key

    def get_many(self, keys: Sequence[str]) -> dict[str, Stamped]:
        """Those of the keys that exist, as they are now."""
        answers = self._session.pipeline([self._sync(), *(self._get(key) for key in keys)])
        next(answers)
        return dict(_found(keys, answers))

    def children(self, key: str) -> Sequence[str]:
        """The names of the children as they are now, unsorted."""
        names = self._current(self._list(key), fresh=True)
        return () if isinstance(names, NoNodeError) else list(names)

    def missing(self, paths: Sequence[str]) -> list[str]:
        """Those of the paths that do not exist now."""
        sends = (partial(_send_exists, path=path, watch=None) for path in paths)
        answers = self._session.pipeline([self._sync(), *sends])
        next(answers)
        return [path for path, stat in zip(paths, answers, strict=True) if stat is None]

    def subtree(self, key: str) -> list[Node]:
        """The key and everything below it, parents first. Raises `Conflict` when a key is missing."""
        self._session.request(self._sync())
        nodes: list[Node] = []
        level = [key]
        while level:
            sends = [send for k in level for send in (self._get(k), self._list(k))]
            answers = list(self._session.pipeline(sends))
            below: list[str] = []
            for index, k in enumerate(level):
                value, names = answers[2 * index : 2 * index + 2]
                if isinstance(value, NoNodeError) or isinstance(names, NoNodeError):
                    raise Conflict(k, "does not exist")
                data, stat = value
                owner = f"{stat.ephemeralOwner & 0xFFFF_FFFF_FFFF_FFFF:x}" if stat.ephemeralOwner else ""
                nodes.append(Node(k, data or b"", stat.version, owner))
                below += [child_of(k, name) for name in names]
            level = sorted(below)
        return nodes

    # What the watch engine asks for.

    def read_key(self, key: str, fresh: bool) -> Stamped | None:
        while True:
            answer = self._current(self._get(key, watch=True), fresh)
            if not isinstance(answer, NoNodeError):
                return _stamped(key, answer)
            if not self._exists(key):
                return None

    def read_keys(self, keys: Sequence[str]) -> Mapping[str, Stamped]:
        return dict(_found(keys, self._session.pipeline(self._get(key, watch=True) for key in keys)))

    def list_keys(self, parent: str, fresh: bool) -> Sequence[str]:
        while True:
            names = self._current(self._list(parent, watch=True), fresh)
            if not isinstance(names, NoNodeError):
                return [child_of(parent, name) for name in names]
            if not self._exists(parent):
                return []

    def _on_event(self, event: WatchedEvent) -> None:
        """Runs on kazoo's event thread: only notes what changed."""
        if event.type == EventType.NONE or event.path is None:
            return  # The connection was lost, and the watches with it; everything is read again after it is back.
        key = event.path[len(self._chroot) :] or ROOT
        if event.type != EventType.CHILD:
            self.engine.key_changed(key)
        if event.type != EventType.CHANGED:
            self.engine.children_changed(key)

    def _current(self, send: Send, fresh: bool) -> Any:
        """The answer or refusal of one read, made current by a sync in the same round trip if `fresh`."""
        *_, answer = self._session.pipeline([self._sync(), send] if fresh else [send])
        return answer

    def _exists(self, key: str) -> bool:
        """Whether the key exists; if not, its creation will be told."""
        send = partial(_send_exists, path=self.path(key), watch=self._on_event)
        return self._session.request(send) is not None

    def _sync(self) -> Send:
        return partial(_send_sync, path=self._chroot)

    def _get(self, key: str, watch: bool = False) -> Send:
        return partial(_send_get, path=self.path(key), watch=self._on_event if watch else None)

    def _list(self, key: str, watch: bool = False) -> Send:
        return partial(_send_list, path=self.path(key), watch=self._on_event if watch else None)


def _send_sync(client: KazooClient, path: str) -> Any:
    return client.sync_async(path)


def _send_get(client: KazooClient, path: str, watch: Any) -> Any:
    return client.get_async(path, watch=watch)


def _send_list(client: KazooClient, path: str, watch: Any) -> Any:
    return client.get_children_async(path, watch=watch)


def _send_exists(client: KazooClient, path: str, watch: Any) -> Any:
    return client.exists_async(path, watch=watch)


def _stamped(key: str, answer: Any) -> Stamped:
    data, stat = answer
    return Stamped(Entry(key, data or b"", stat.version), stat.mzxid)


def _found(keys: Sequence[str], answers: Iterator[Any]) -> Iterator[tuple[str, Stamped]]:
    for key, answer in zip(keys, answers, strict=True):
        if not isinstance(answer, NoNodeError):
            yield key, _stamped(key, answer)
