# SPDX-License-Identifier: Apache-2.0
"""storage_rules_contents: what a volume holds survives resizing, and a clone has it for itself."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import BinaryIO, cast

from pvc_core.errors import Refused
from pvc_core.storage import StorageCapability
from pvc_core.testing.storage_bench import BAD_NAMES, MIB, SIZE_BYTES, StorageBench, StorageRules, difference

DATA = bytes(range(256)) * 1024
"""A quarter of a MiB in which a byte that is missing or out of place shows."""


class ContentRules(StorageRules):
    """Capability `contents`."""

    def test_a_new_volume_reads_as_zeros(self) -> None:
        with self.bench() as bench:
            bench.moving()
            former = bench.create()
            bench.write(former.name, b"secret" * 1000)
            bench.backend.remove_volume(bench.pool, former.name)
            volume = bench.create()
            assert not any(bench.read(volume.name)), "it shows what a volume before it held"

    def test_what_is_uploaded_is_downloaded_with_the_rest_of_the_volume(self) -> None:
        with self.bench() as bench:
            bench.moving()
            volume = bench.create()
            bench.write(volume.name, DATA)
            held = bench.read(volume.name)
            assert len(held) == volume.size_bytes, "it is not the whole volume"
            assert not difference(held, DATA)
            assert bench.volume(volume.name).size_bytes == volume.size_bytes, "an upload has changed the size"

    def test_a_source_that_gives_little_at_a_time_is_read_to_its_end(self) -> None:
        with self.bench() as bench:
            volume = bench.create()
            bench.moving().upload_volume(bench.pool, volume.name, _trickling(DATA), lambda _: None)
            assert not difference(bench.read(volume.name), DATA)

    def test_a_source_that_fills_the_volume_fits(self) -> None:
        with self.bench() as bench:
            bench.moving()
            volume = bench.create(MIB)
            bench.write(volume.name, b"x" * volume.size_bytes)
            assert not difference(bench.read(volume.name), b"x" * volume.size_bytes)

    def test_a_source_that_is_larger_than_the_volume_is_refused(self) -> None:
        with self.bench() as bench:
            bench.moving()
            volume, neighbour = bench.create(MIB), bench.create(MIB)
            bench.write(neighbour.name, DATA)
            with bench.refused():
                bench.write(volume.name, b"x" * (volume.size_bytes + 1))
            assert not difference(bench.read(neighbour.name), DATA)

    def test_a_volume_in_use_is_not_filled_and_its_source_not_read(self) -> None:
        with self.bench() as bench:
            moving, volume, source = bench.moving(), bench.create(), BytesIO(DATA)
            with self.attached(volume), bench.refused():
                moving.upload_volume(bench.pool, volume.name, source, lambda _: None)
            assert source.tell() == 0, "the source has been read in vain"

    def test_progress_grows_to_all_that_was_moved(self) -> None:
        with self.bench() as bench:
            moving, volume = bench.moving(), bench.create()
            up: list[int] = []
            moving.upload_volume(bench.pool, volume.name, BytesIO(DATA), up.append)
            down: list[int] = []
            moving.download_volume(bench.pool, volume.name, BytesIO(), down.append)
            for reported, moved_bytes in ((up, len(DATA)), (down, volume.size_bytes)):
                assert reported, "no progress is reported"
                assert reported == sorted(reported), "progress goes backwards"
                assert reported[-1] == moved_bytes


class ResizeRules(StorageRules):
    """Capability `resize`."""

    def test_a_resized_volume_is_as_large_as_was_asked_for_or_larger(self) -> None:
        with self.bench() as bench:
            resizing, volume = bench.resizing(), bench.create()
            for more_bytes in (1, SIZE_BYTES):
                wanted_bytes = bench.volume(volume.name).size_bytes + more_bytes
                resized = resizing.resize_volume(bench.pool, volume.name, wanted_bytes)
                assert resized.size_bytes >= wanted_bytes, f"{wanted_bytes} are wanted, {resized.size_bytes} are there"
                assert bench.volume(volume.name).size_bytes == resized.size_bytes

    def test_the_size_that_a_volume_has_already_is_no_error(self) -> None:
        with self.bench() as bench:
            resizing, volume = bench.resizing(), bench.create()
            assert resizing.resize_volume(bench.pool, volume.name, volume.size_bytes).size_bytes == volume.size_bytes

    def test_no_volume_is_made_smaller(self) -> None:
        with self.bench() as bench:
            resizing, volume = bench.resizing(), bench.create()
            for size_bytes in (volume.size_bytes // 2, 1, 0, -1):
                with bench.invalid(f"{size_bytes} bytes instead of {volume.size_bytes}"):
                    resizing.resize_volume(bench.pool, volume.name, size_bytes)

    def test_a_volume_does_not_grow_beyond_the_room(self) -> None:
        with self.bench() as bench:
            resizing, volume = bench.resizing(), bench.create()
            with bench.refused():
                resizing.resize_volume(bench.pool, volume.name, volume.size_bytes + bench.more_than_free_bytes())

    def test_a_resized_volume_keeps_what_it_holds(self) -> None:
        with self.bench() as bench:
            bench.need(StorageCapability.RESIZE, StorageCapability.CONTENTS)
            volume = bench.create()
            bench.write(volume.name, DATA)
            resized = bench.resizing().resize_volume(bench.pool, volume.name, volume.size_bytes + SIZE_BYTES)
            held = bench.read(volume.name)
            assert not difference(held, DATA)
            assert len(held) == resized.size_bytes


class CloneRules(StorageRules):
    """Capability `clone`."""

    def test_a_clone_is_a_volume_of_its_own_and_as_large(self) -> None:
        with self.bench() as bench:
            volume, name = bench.create(2 * SIZE_BYTES), bench.name()
            clone = bench.cloning().clone_volume(bench.pool, volume.name, name)
            assert (clone.pool, clone.name, clone.size_bytes) == (bench.pool, name, volume.size_bytes)
            assert {volume.name, name} <= set(bench.listed())

    def test_a_clone_does_not_get_a_name_that_is_taken(self) -> None:
        with self.bench() as bench:
            volume, other = bench.create(SIZE_BYTES), bench.create(2 * SIZE_BYTES)
            for taken in (other.name, volume.name):
                with bench.taken():
                    bench.cloning().clone_volume(bench.pool, volume.name, taken)

    def test_a_clone_does_not_get_a_name_that_is_none(self) -> None:
        with self.bench() as bench:
            cloning, volume = bench.cloning(), bench.create()
            for name in BAD_NAMES:
                with bench.invalid(f"a clone called {name!r}"):
                    cloning.clone_volume(bench.pool, volume.name, name)

    def test_a_clone_has_the_contents_and_neither_sees_what_is_written_to_the_other(self) -> None:
        with self.bench() as bench:
            bench.need(StorageCapability.CLONE, StorageCapability.CONTENTS)
            volume, name = bench.create(), bench.name()
            bench.write(volume.name, b"both")
            bench.cloning().clone_volume(bench.pool, volume.name, name)
            assert bench.read(name)[:4] == b"both"
            bench.write(volume.name, b"mine")
            assert bench.read(name)[:4] == b"both", "what is written to the volume is seen in its clone"
            bench.write(name, b"ours")
            assert bench.read(volume.name)[:4] == b"mine", "what is written to the clone is seen in the volume"

    def test_a_volume_with_clones_is_removed_or_the_refusal_names_them(self) -> None:
        with self.bench() as bench:
            cloning, volume, names = bench.cloning(), bench.create(), [bench.name(), bench.name()]
            for name in names:
                cloning.clone_volume(bench.pool, volume.name, name)
            if _is_removed(bench, volume.name, names):
                return
            for name in names:
                bench.backend.remove_volume(bench.pool, name)
            bench.backend.remove_volume(bench.pool, volume.name)

    def test_a_clone_keeps_its_contents_whatever_becomes_of_its_volume(self) -> None:
        with self.bench() as bench:
            bench.need(StorageCapability.CLONE, StorageCapability.CONTENTS)
            volume, name = bench.create(), bench.name()
            bench.write(volume.name, DATA)
            clone = bench.cloning().clone_volume(bench.pool, volume.name, name)
            _is_removed(bench, volume.name, [name])
            assert bench.volume(name).size_bytes == clone.size_bytes
            assert not difference(bench.read(name), DATA), "it went with its volume"

    def test_a_clone_can_be_removed_and_the_volume_stays(self) -> None:
        with self.bench() as bench:
            volume, name = bench.create(), bench.name()
            bench.cloning().clone_volume(bench.pool, volume.name, name)
            bench.backend.remove_volume(bench.pool, name)
            assert bench.volume(volume.name).size_bytes == volume.size_bytes

    def test_a_clone_has_no_snapshots_and_its_volume_no_more_than_before(self) -> None:
        with self.bench() as bench:
            bench.need(StorageCapability.CLONE, StorageCapability.SNAPSHOTS)
            volume, name = bench.create(), bench.name()
            kept = bench.snapshot(volume.name)
            bench.cloning().clone_volume(bench.pool, volume.name, name)
            assert bench.snapshots(name) == ()
            assert bench.snapshots(volume.name) == (kept,)


def _is_removed(bench: StorageBench, volume: str, clones: Sequence[str]) -> bool:
    """Remove a volume that has clones. False: that was refused because of them, and has changed nothing."""
    before, refusal = bench.state(), None
    try:
        bench.backend.remove_volume(bench.pool, volume)
    except Refused as error:
        refusal = error
    if refusal is None:
        assert set(clones) <= set(bench.listed()), "its clones went with it"
        return True
    assert bench.state() == before, "what was refused has changed something"
    unnamed = [name for name in clones if name not in refusal.reason]
    assert not unnamed, f"its clones {', '.join(unnamed)} are not named: {refusal}"
    return False


class _Trickle(BytesIO):
    """Gives at most 1000 bytes at once, as a network connection does."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(1000 if size is None or size < 0 else min(size, 1000))


def _trickling(data: bytes) -> BinaryIO:
    return cast(BinaryIO, _Trickle(data))
