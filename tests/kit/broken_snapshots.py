# SPDX-License-Identifier: Apache-2.0
"""broken_snapshots: storage backends with one mistake about snapshots each, and the rules that they break."""

from __future__ import annotations

from contextlib import suppress

from kit.broken_storage import Broken
from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, Refused
from pvc_core.storage import Snapshot, Volume
from pvc_core.testing.memory_storage import Kept


class BornProtected(Broken):
    """Protects every snapshot."""

    breaks = ("a_snapshot_has_the_size_of_its_volume_and_is_not_protected",)

    def create_snapshot(self, pool: str, volume: str, name: str) -> Snapshot:
        super().create_snapshot(pool, volume, name)
        return super().protect_snapshot(pool, volume, name, True)


class ByName(Broken):
    """Lists snapshots by name."""

    breaks = ("snapshots_are_listed_oldest_first",)

    def snapshots(self, pool: str, volume: str) -> tuple[Snapshot, ...]:
        return tuple(sorted(super().snapshots(pool, volume), key=lambda snapshot: snapshot.name))


class Replaces(Broken):
    """Takes a snapshot in the place of another."""

    breaks = ("a_snapshot_name_is_taken_once_for_each_volume",)

    def create_snapshot(self, pool: str, volume: str, name: str) -> Snapshot:
        self.held(pool, volume).snapshots.pop(name, None)
        return super().create_snapshot(pool, volume, name)


class OneNamespace(Broken):
    """Has snapshot names once for all volumes."""

    breaks = ("a_snapshot_name_is_taken_once_for_each_volume",)

    def create_snapshot(self, pool: str, volume: str, name: str) -> Snapshot:
        if any(name in held.snapshots for held in self.storage.held.get(pool, {}).values()):
            raise AlreadyExists("snapshot", name)
        return super().create_snapshot(pool, volume, name)


class SnapshotsOfAnyName(Broken):
    """Does not check what a snapshot is called."""

    breaks = ("a_name_that_is_none_makes_no_snapshot",)

    def create_snapshot(self, pool: str, volume: str, name: str) -> Snapshot:
        with suppress(InvalidInput):
            return super().create_snapshot(pool, volume, name)
        self.held(pool, volume).snapshots[name] = Kept(1, b"")
        return Snapshot(name, 1)


class SnapshotsRenamedToAny(Broken):
    """Does not check what a snapshot is called later."""

    breaks = ("a_name_that_is_none_makes_no_snapshot",)

    def rename_snapshot(self, pool: str, volume: str, name: str, new_name: str) -> Snapshot:
        with suppress(InvalidInput):
            return super().rename_snapshot(pool, volume, name, new_name)
        return Snapshot(new_name, 1)


class ForgetsSilently(Broken):
    """Takes "is not there" for "was removed"."""

    breaks = ("nothing_is_done_with_a_snapshot_that_does_not_exist",)

    def remove_snapshot(self, pool: str, volume: str, name: str) -> None:
        with suppress(NotFound):
            super().remove_snapshot(pool, volume, name)


class RenamesToTheEnd(Broken):
    """Renames by taking the snapshot out and putting it in again."""

    breaks = ("a_renamed_snapshot_is_the_same_in_the_same_place",)

    def rename_snapshot(self, pool: str, volume: str, name: str, new_name: str) -> Snapshot:
        renamed = super().rename_snapshot(pool, volume, name, new_name)
        kept = self.held(pool, volume).snapshots
        kept[new_name] = kept.pop(new_name)
        return renamed


class LosesProtection(Broken):
    """Renames the snapshot without its protection."""

    breaks = ("a_renamed_snapshot_is_the_same_in_the_same_place",)

    def rename_snapshot(self, pool: str, volume: str, name: str, new_name: str) -> Snapshot:
        super().rename_snapshot(pool, volume, name, new_name)
        return super().protect_snapshot(pool, volume, new_name, False)


class RenamesOverSnapshots(Broken):
    """Renames a snapshot as `mv` does."""

    breaks = ("a_snapshot_does_not_get_a_name_that_is_taken",)

    def rename_snapshot(self, pool: str, volume: str, name: str, new_name: str) -> Snapshot:
        self.kept(pool, volume, name)
        self.held(pool, volume).snapshots.pop(new_name, None)
        return super().rename_snapshot(pool, volume, name, new_name)


class ProtectsOnPaper(Broken):
    """Shows protection and removes all the same."""

    breaks = ("a_protected_snapshot_is_not_removed_until_it_is_protected_no_longer",)

    def remove_snapshot(self, pool: str, volume: str, name: str) -> None:
        self.kept(pool, volume, name)
        del self.held(pool, volume).snapshots[name]


class ProtectsOnce(Broken):
    """Finds fault with protecting what is protected."""

    breaks = ("a_protected_snapshot_is_not_removed_until_it_is_protected_no_longer",)

    def protect_snapshot(self, pool: str, volume: str, name: str, protected: bool) -> Snapshot:
        if self.kept(pool, volume, name).protected == protected:
            raise Refused(f"snapshot {name}", "is so already")
        return super().protect_snapshot(pool, volume, name, protected)


class RemovesOlder(Broken):
    """Removes a snapshot with all that are older."""

    breaks = ("a_removed_snapshot_is_gone_and_the_others_stay",)

    def remove_snapshot(self, pool: str, volume: str, name: str) -> None:
        older = list(self.held(pool, volume).snapshots)
        super().remove_snapshot(pool, volume, name)
        for each in older[: older.index(name)]:
            self.held(pool, volume).snapshots.pop(each, None)


class RemovesAll(Broken):
    """Removes a volume with its snapshots."""

    breaks = ("a_volume_with_snapshots_is_not_removed",)

    def remove_volume(self, pool: str, name: str) -> None:
        self.held(pool, name).snapshots.clear()
        super().remove_volume(pool, name)


class RemovesFirst(Broken):
    """Refuses to remove a volume with snapshots, when the snapshots are gone."""

    breaks = ("a_volume_with_snapshots_is_not_removed",)

    def remove_volume(self, pool: str, name: str) -> None:
        try:
            super().remove_volume(pool, name)
        except Refused:
            self.held(pool, name).snapshots.clear()
            raise


class RollsBackOnPaper(Broken):
    """Rolls back and leaves what the volume holds."""

    breaks = ("a_volume_that_is_rolled_back_holds_what_it_held",)

    def roll_back(self, pool: str, volume: str, name: str) -> Volume:
        data = self.held(pool, volume).data
        rolled = super().roll_back(pool, volume, name)
        self.held(pool, volume).data = data
        return rolled


class RollsBackOver(Broken):
    """Writes what the snapshot has over what is there, and leaves the rest."""

    breaks = ("a_volume_that_is_rolled_back_holds_what_it_held",)

    def roll_back(self, pool: str, volume: str, name: str) -> Volume:
        now = self.held(pool, volume).data
        rolled = super().roll_back(pool, volume, name)
        held = self.held(pool, volume)
        held.data += now[len(held.data) :]
        return rolled


class StaysLarge(Broken):
    """Rolls back what a volume holds, and not its size."""

    breaks = ("a_volume_that_is_rolled_back_has_the_size_that_it_had",)

    def roll_back(self, pool: str, volume: str, name: str) -> Volume:
        size_bytes = self.volume(pool, volume).size_bytes
        super().roll_back(pool, volume, name)
        self.held(pool, volume).size_bytes = size_bytes
        return self.volume(pool, volume)


class LosesLater(Broken):
    """Loses what is later than the snapshot that it rolls back to."""

    breaks = ("no_snapshot_is_lost_when_a_volume_is_rolled_back",)

    def roll_back(self, pool: str, volume: str, name: str) -> Volume:
        rolled = super().roll_back(pool, volume, name)
        snapshots = self.held(pool, volume).snapshots
        names = list(snapshots)
        for later in names[names.index(name) + 1 :]:
            del snapshots[later]
        return rolled


class ConsumesTheSnapshot(Broken):
    """Rolls back to a snapshot once."""

    breaks = (
        "no_snapshot_is_lost_when_a_volume_is_rolled_back",
        "a_volume_that_is_rolled_back_holds_what_it_held",
    )

    def roll_back(self, pool: str, volume: str, name: str) -> Volume:
        rolled = super().roll_back(pool, volume, name)
        del self.held(pool, volume).snapshots[name]
        return rolled
