# SPDX-License-Identifier: Apache-2.0
"""vm_snapshot_standing: what a VM's record says of its snapshots, so that nothing is done to the VM past them.

It is written in the transactions that begin and end work on a snapshot. So whoever starts, undefines or changes the VM
at the same moment loses the race for its record, reads it again, and sees what goes on.
"""

from __future__ import annotations

import msgspec


class SnapshotStanding(msgspec.Struct, frozen=True, kw_only=True):
    """names: of all its snapshots, oldest first, also of those that are being taken or removed.

    taking: the one that its node is to take while its guest runs. kept_off: the one that is taken of it while it is
    off, or that it goes back to: until that is over it does not start. problem: why the one that its node was to take
    last is not there.
    """

    names: tuple[str, ...] = ()
    taking: str = ""
    kept_off: str = ""
    problem: str = ""

    @property
    def kept_off_by(self) -> str:
        """What goes on, a sentence of its own, so that the VM does not start; "" when it may."""
        if not self.kept_off:
            return ""
        work = f"its snapshot {self.kept_off} is being taken, or gone back to"
        return f"{work}; if nobody does so any more, `pvc vm volume repair` brings it to an end"

    def without(self, name: str, problem: str = "") -> SnapshotStanding:
        """The snapshot of this name is no more."""
        names = tuple(each for each in self.names if each != name)
        return msgspec.structs.replace(self.at_rest(name, problem), names=names)

    def at_rest(self, name: str, problem: str = "") -> SnapshotStanding:
        """Nothing is done with the snapshot of this name any more."""
        return msgspec.structs.replace(
            self,
            taking="" if self.taking == name else self.taking,
            kept_off="" if self.kept_off == name else self.kept_off,
            problem=problem,
        )
