# SPDX-License-Identifier: Apache-2.0
"""storage_rules_volumes: volumes are made, listed, renamed, attached and removed wholly or not at all."""

from __future__ import annotations

from lxml import etree

from pvc_core.storage import Volume
from pvc_core.testing.storage_bench import BAD_NAMES, MIB, SIZE_BYTES, StorageRules


class VolumeRules(StorageRules):
    """What every backend does with volumes."""

    # ------------------------------------------------------------------------------------------- create

    def test_a_volume_is_what_was_asked_for(self) -> None:
        with self.bench() as bench:
            name = bench.name()
            made = bench.create(name=name)
            assert type(made) is Volume, f"{type(made).__name__} instead of a Volume"
            assert (made.pool, made.name) == (bench.pool, name)
            found = bench.volume(name)
            assert (found.pool, found.name, found.size_bytes) == (made.pool, made.name, made.size_bytes)
            assert found.used_bytes is None or found.used_bytes >= 0

    def test_a_size_is_never_rounded_down(self) -> None:
        with self.bench() as bench:
            for size_bytes in (1, 512, MIB - 1, MIB, MIB + 1):
                made = bench.create(size_bytes)
                assert made.size_bytes >= size_bytes, f"{size_bytes} bytes are wanted, {made.size_bytes} are there"
                assert bench.volume(made.name).size_bytes == made.size_bytes

    def test_a_name_may_have_all_that_names_may_have(self) -> None:
        with self.bench() as bench:
            name = bench.name(fill="Aa0._+-" + "x" * 127)
            assert len(name) == 127
            assert bench.create(name=name).name == name
            assert name in bench.listed()

    def test_a_name_is_taken_once(self) -> None:
        with self.bench() as bench:
            first = bench.create()
            with bench.taken():
                bench.create(2 * SIZE_BYTES, name=first.name)

    def test_a_name_that_is_none_makes_no_volume(self) -> None:
        with self.bench() as bench:
            for name in BAD_NAMES:
                with bench.invalid(f"a volume called {name!r}"):
                    bench.backend.create_volume(bench.pool, name, SIZE_BYTES)

    def test_a_size_that_is_none_makes_no_volume(self) -> None:
        with self.bench() as bench:
            for size_bytes in (0, -1, -SIZE_BYTES):
                with bench.invalid(f"a volume of {size_bytes} bytes"):
                    bench.create(size_bytes)

    def test_a_volume_larger_than_the_room_is_refused_and_leaves_nothing_behind(self) -> None:
        with self.bench() as bench:
            name = bench.name()
            with bench.refused():
                bench.create(bench.more_than_free_bytes(), name=name)
            bench.create(name=name)

    # --------------------------------------------------------------------------------------------- list

    def test_a_listing_is_sorted_and_complete(self) -> None:
        with self.bench() as bench:
            made = [bench.create((n + 1) * MIB, name=bench.name(sorts=letter)) for n, letter in enumerate("cab")]
            listed = bench.backend.volumes(bench.pool)
            names = [volume.name for volume in listed]
            assert names == sorted(names), "it is not sorted by name"
            assert len(set(names)) == len(names), "a volume is listed twice"
            sizes = {(volume.pool, volume.name, volume.size_bytes) for volume in listed}
            assert {(volume.pool, volume.name, volume.size_bytes) for volume in made} <= sizes

    # ------------------------------------------------------------------------------------------- rename

    def test_a_renamed_volume_keeps_its_size_and_frees_its_name(self) -> None:
        with self.bench() as bench:
            old, new = bench.create(2 * SIZE_BYTES), bench.name()
            renamed = bench.backend.rename_volume(bench.pool, old.name, new)
            assert (renamed.pool, renamed.name, renamed.size_bytes) == (bench.pool, new, old.size_bytes)
            with bench.missing("the volume by its former name"):
                bench.volume(old.name)
            assert bench.volume(new).size_bytes == old.size_bytes
            bench.create(SIZE_BYTES, name=old.name)
            assert bench.volume(new).size_bytes == old.size_bytes, "the new owner of the name has the renamed volume"

    def test_a_renamed_volume_keeps_what_it_holds(self) -> None:
        with self.bench() as bench:
            bench.moving()
            old, new = bench.create(), bench.name()
            bench.write(old.name, b"kept")
            bench.backend.rename_volume(bench.pool, old.name, new)
            assert bench.read(new)[:4] == b"kept"

    def test_a_volume_does_not_get_a_name_that_is_taken(self) -> None:
        with self.bench() as bench:
            one, other = bench.create(SIZE_BYTES), bench.create(2 * SIZE_BYTES)
            with bench.taken():
                bench.backend.rename_volume(bench.pool, one.name, other.name)

    def test_a_volume_does_not_get_a_name_that_is_none(self) -> None:
        with self.bench() as bench:
            volume = bench.create()
            for name in BAD_NAMES:
                with bench.invalid(f"the new name {name!r}"):
                    bench.backend.rename_volume(bench.pool, volume.name, name)

    # ------------------------------------------------------------------------------------------- remove

    def test_a_removed_volume_is_gone_and_its_name_free(self) -> None:
        with self.bench() as bench:
            volume, other = bench.create(2 * SIZE_BYTES), bench.create()
            bench.backend.remove_volume(bench.pool, volume.name)
            with bench.missing("a volume that was removed"):
                bench.volume(volume.name)
            assert volume.name not in bench.listed()
            assert other.name in bench.listed(), "another volume is gone as well"
            assert bench.create(SIZE_BYTES, name=volume.name).size_bytes == other.size_bytes

    def test_a_removed_volume_frees_its_room(self) -> None:
        with self.bench() as bench:
            most_bytes = bench.free_bytes() * 2 // 3
            for _ in range(3):
                volume = bench.create(most_bytes)
                bench.backend.remove_volume(bench.pool, volume.name)

    def test_a_volume_in_use_is_not_removed(self) -> None:
        with self.bench() as bench:
            volume = bench.create()
            with self.attached(volume), bench.refused():
                bench.backend.remove_volume(bench.pool, volume.name)
            bench.backend.remove_volume(bench.pool, volume.name)

    # --------------------------------------------------------------------------------------------- disk

    def test_a_disk_is_one_element_for_the_device_that_was_asked_for(self) -> None:
        with self.bench() as bench:
            volume = bench.create()
            for device in ("vda", "vdz", "vdaa"):
                text = bench.backend.disk_xml(bench.pool, volume.name, device)
                devices = etree.fromstring(f"<devices>{text}</devices>")
                assert [each.tag for each in devices] == ["disk"], f"not one <disk>: {text}"
                assert devices.xpath("disk/target/@dev") == [device], f"not attached as {device}: {text}"

    def test_the_disks_of_two_volumes_have_different_sources(self) -> None:
        with self.bench() as bench:
            texts = [bench.backend.disk_xml(bench.pool, bench.create().name, "vda") for _ in range(2)]
            sources = [etree.fromstring(text).find("source") for text in texts]
            assert None not in sources, f"no <source>: {texts[0]}"
            assert len({etree.tostring(each) for each in sources if each is not None}) == 2, "two guests, one disk"
