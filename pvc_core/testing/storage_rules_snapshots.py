# SPDX-License-Identifier: Apache-2.0
"""storage_rules_snapshots: a snapshot keeps what a volume held, under its name, for as long as it is wanted."""

from __future__ import annotations

from pvc_core.errors import Refused
from pvc_core.storage import Snapshot, StorageCapability
from pvc_core.testing.storage_bench import BAD_NAMES, SIZE_BYTES, StorageRules


class SnapshotRules(StorageRules):
    """Capability `snapshots`."""

    def test_a_snapshot_has_the_size_of_its_volume_and_is_not_protected(self) -> None:
        with self.bench() as bench:
            keeping, volume, name = bench.keeping(), bench.create(), bench.name()
            made = keeping.create_snapshot(bench.pool, volume.name, name)
            assert made == Snapshot(name, volume.size_bytes, protected=False)
            assert bench.snapshots(volume.name) == (made,)

    def test_snapshots_are_listed_oldest_first(self) -> None:
        with self.bench() as bench:
            keeping, volume = bench.keeping(), bench.create()
            assert bench.snapshots(volume.name) == (), "a new volume has snapshots"
            made = [keeping.create_snapshot(bench.pool, volume.name, bench.name(sorts=each)) for each in "cab"]
            assert list(bench.snapshots(volume.name)) == made

    def test_a_snapshot_name_is_taken_once_for_each_volume(self) -> None:
        with self.bench() as bench:
            keeping, one, other, name = bench.keeping(), bench.create(), bench.create(), bench.name()
            keeping.create_snapshot(bench.pool, one.name, name)
            keeping.create_snapshot(bench.pool, other.name, name)
            with bench.taken():
                keeping.create_snapshot(bench.pool, one.name, name)
            keeping.remove_snapshot(bench.pool, one.name, name)
            assert len(bench.snapshots(other.name)) == 1, "it was removed from another volume as well"

    def test_a_name_that_is_none_makes_no_snapshot(self) -> None:
        with self.bench() as bench:
            keeping, volume = bench.keeping(), bench.create()
            kept = bench.snapshot(volume.name)
            for name in BAD_NAMES:
                with bench.invalid(f"a snapshot called {name!r}"):
                    keeping.create_snapshot(bench.pool, volume.name, name)
                with bench.invalid(f"a snapshot renamed to {name!r}"):
                    keeping.rename_snapshot(bench.pool, volume.name, kept.name, name)

    def test_nothing_is_done_with_a_snapshot_that_does_not_exist(self) -> None:
        with self.bench() as bench:
            keeping, volume, missing = bench.keeping(), bench.create(), bench.name()
            bench.snapshot(volume.name)
            with bench.missing("rename_snapshot"):
                keeping.rename_snapshot(bench.pool, volume.name, missing, bench.name())
            with bench.missing("protect_snapshot"):
                keeping.protect_snapshot(bench.pool, volume.name, missing, True)
            with bench.missing("roll_back"):
                keeping.roll_back(bench.pool, volume.name, missing)
            with bench.missing("remove_snapshot"):
                keeping.remove_snapshot(bench.pool, volume.name, missing)

    def test_a_renamed_snapshot_is_the_same_in_the_same_place(self) -> None:
        with self.bench() as bench:
            keeping, volume, new = bench.keeping(), bench.create(), bench.name(sorts="z")
            first, second = bench.snapshot(volume.name), bench.snapshot(volume.name)
            keeping.protect_snapshot(bench.pool, volume.name, first.name, True)
            renamed = keeping.rename_snapshot(bench.pool, volume.name, first.name, new)
            assert renamed == Snapshot(new, first.size_bytes, protected=True)
            assert bench.snapshots(volume.name) == (renamed, second)

    def test_a_snapshot_does_not_get_a_name_that_is_taken(self) -> None:
        with self.bench() as bench:
            keeping, volume = bench.keeping(), bench.create()
            first, second = bench.snapshot(volume.name), bench.snapshot(volume.name)
            with bench.taken():
                keeping.rename_snapshot(bench.pool, volume.name, first.name, second.name)

    def test_a_protected_snapshot_is_not_removed_until_it_is_protected_no_longer(self) -> None:
        with self.bench() as bench:
            keeping, volume = bench.keeping(), bench.create()
            kept = bench.snapshot(volume.name)
            for protected in (True, True):
                assert keeping.protect_snapshot(bench.pool, volume.name, kept.name, protected).protected is True
            with bench.refused():
                keeping.remove_snapshot(bench.pool, volume.name, kept.name)
            for protected in (False, False):
                assert keeping.protect_snapshot(bench.pool, volume.name, kept.name, protected).protected is False
            keeping.remove_snapshot(bench.pool, volume.name, kept.name)
            assert bench.snapshots(volume.name) == ()

    def test_a_removed_snapshot_is_gone_and_the_others_stay(self) -> None:
        with self.bench() as bench:
            keeping, volume = bench.keeping(), bench.create()
            first, second, third = (bench.snapshot(volume.name) for _ in range(3))
            keeping.remove_snapshot(bench.pool, volume.name, second.name)
            assert bench.snapshots(volume.name) == (first, third)

    def test_a_volume_with_snapshots_is_not_removed(self) -> None:
        with self.bench() as bench:
            keeping, volume = bench.keeping(), bench.create()
            kept = bench.snapshot(volume.name)
            with bench.refused():
                bench.backend.remove_volume(bench.pool, volume.name)
            keeping.remove_snapshot(bench.pool, volume.name, kept.name)
            bench.backend.remove_volume(bench.pool, volume.name)

    def test_snapshots_go_with_a_volume_that_is_renamed(self) -> None:
        with self.bench() as bench:
            bench.keeping()
            volume, new = bench.create(), bench.name()
            kept = bench.snapshot(volume.name)
            bench.backend.rename_volume(bench.pool, volume.name, new)
            assert bench.snapshots(new) == (kept,)

    # ---------------------------------------------------------------------------------------- roll back

    def test_a_volume_that_is_rolled_back_holds_what_it_held(self) -> None:
        with self.bench() as bench:
            bench.need(StorageCapability.SNAPSHOTS, StorageCapability.CONTENTS)
            volume = bench.create()
            bench.write(volume.name, b"then")
            kept = bench.snapshot(volume.name)
            for _ in range(2):
                bench.write(volume.name, b"now, and longer")
                bench.keeping().roll_back(bench.pool, volume.name, kept.name)
                assert bench.read(volume.name)[:15] == b"then".ljust(15, b"\0")

    def test_a_volume_that_is_rolled_back_has_the_size_that_it_had(self) -> None:
        with self.bench() as bench:
            bench.need(StorageCapability.SNAPSHOTS, StorageCapability.RESIZE)
            volume = bench.create()
            kept = bench.snapshot(volume.name)
            bench.resizing().resize_volume(bench.pool, volume.name, volume.size_bytes + SIZE_BYTES)
            assert bench.snapshots(volume.name) == (kept,), "the snapshot has changed with its volume"
            assert bench.keeping().roll_back(bench.pool, volume.name, kept.name).size_bytes == volume.size_bytes
            assert bench.volume(volume.name).size_bytes == volume.size_bytes

    def test_no_snapshot_is_lost_when_a_volume_is_rolled_back(self) -> None:
        with self.bench() as bench:
            keeping, volume = bench.keeping(), bench.create()
            first, second = bench.snapshot(volume.name), bench.snapshot(volume.name)
            keeping.protect_snapshot(bench.pool, volume.name, first.name, True)
            before = bench.state()
            try:
                keeping.roll_back(bench.pool, volume.name, first.name)
            except Refused:
                assert bench.state() == before, "what was refused has changed something"
            assert bench.state() == before, f"{first.name} and {second.name} should be as they were"
            keeping.roll_back(bench.pool, volume.name, second.name)
            assert bench.state() == before

    def test_a_volume_in_use_is_not_rolled_back(self) -> None:
        with self.bench() as bench:
            keeping, volume = bench.keeping(), bench.create()
            kept = bench.snapshot(volume.name)
            with self.attached(volume), bench.refused():
                keeping.roll_back(bench.pool, volume.name, kept.name)
