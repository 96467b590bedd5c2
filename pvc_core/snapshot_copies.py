# SPDX-License-Identifier: Apache-2.0
"""snapshot_copies: what a plugin gets of a snapshot: a copy of whatever it looks at, made when it looks.

A snapshot's records are frozen, but some hold dictionaries (labels, reservations, domains), and the snapshot itself is
shared by everybody in the process. A plugin that changes what it was given, by mistake or on a thread that was given
up long ago, changes its own copy. Nothing is copied that nobody looks at: a veto on a cluster of a thousand nodes asks
for one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from pvc_core.errors import BrokenRecord
from pvc_core.plugin_configuration import settings_for_plugins
from pvc_core.snapshot import ClusterSnapshot

T = TypeVar("T")


def copy_for_plugins(snapshot: ClusterSnapshot) -> ClusterSnapshot:
    """The same snapshot, of which nothing can be changed for anybody else."""
    return replace(
        snapshot,
        nodes=_CopiedWhenSeen(snapshot.nodes),
        vms=MappingProxyType(dict(snapshot.vms)),  # a VM's record holds nothing that could be changed
        rules=_CopiedWhenSeen(snapshot.rules),
        settings=settings_for_plugins(snapshot.settings),
        settings_data=b"",
        broken={key: BrokenRecord(problem.key, problem.problem) for key, problem in snapshot.broken.items()},
    )


class _CopiedWhenSeen(Mapping[str, T]):
    """The values of another mapping; each is copied when it is first asked for."""

    def __init__(self, held: Mapping[str, T]) -> None:
        self._held = held
        self._seen: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._seen:
            self._seen[name] = copy.deepcopy(self._held[name])
        return self._seen[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)
