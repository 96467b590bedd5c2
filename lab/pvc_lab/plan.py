# SPDX-License-Identifier: Apache-2.0
"""What a lab consists of, written down so that another program can take it down.

It is on disk before the first part of the lab is created; the prefix alone is enough to find all.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from pvc_lab.leftovers import ANY_LAB

MAX_NODES = 200


class PlanError(ValueError):
    """A lab of this shape cannot be built."""


@dataclass(frozen=True)
class Plan:
    """`store_members` counts the ZooKeeper servers; `subnet_number` is X in 10.77.X.0/24, once known.

    `ceph`: there is a Ceph cluster.
    """

    prefix: str
    node_names: tuple[str, ...]
    store_members: int
    subnet_number: int | None = None
    ceph: bool = False

    @classmethod
    def new(cls, nodes: int, store_members: int, *, ceph: bool = False) -> Plan:
        """A plan for hypervisors hv1, hv2, ... under a prefix that no other lab has."""
        if not 1 <= nodes <= MAX_NODES:
            raise PlanError(f"a lab has 1 to {MAX_NODES} nodes, not {nodes}")
        if store_members not in (1, 3, 5):
            raise PlanError(f"ZooKeeper has 1, 3 or 5 members, not {store_members}")
        names = tuple(f"hv{number}" for number in range(1, nodes + 1))
        return cls(f"{ANY_LAB}{secrets.token_hex(3)}", names, store_members, ceph=ceph)

    @classmethod
    def read(cls, path: Path) -> Plan:
        fields = json.loads(path.read_text())
        return cls(**{**fields, "node_names": tuple(fields["node_names"])})

    def write(self, path: Path) -> None:
        """Write it at once or not at all."""
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        temporary.rename(path)
