# SPDX-License-Identifier: Apache-2.0
"""broken_contents: storage backends with one mistake about contents, sizes or clones each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from kit.broken_storage import Broken
from pvc_core.errors import AlreadyExists, InvalidInput, Refused
from pvc_core.storage import StorageSite, Volume
from pvc_core.testing.memory_storage import Held, MemoryStorage

# -------------------------------------------------------------------------------------------- contents


class Unwiped(Broken):
    """Gives a new volume the blocks of one that was removed, as they are."""

    breaks = ("a_new_volume_reads_as_zeros",)
    left = b""

    def remove_volume(self, pool: str, name: str) -> None:
        self.left = self.held(pool, name).data
        super().remove_volume(pool, name)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        made = super().create_volume(pool, name, size_bytes)
        self.held(pool, name).data = self.left
        return made


class TrimsZeros(Broken):
    """Downloads what was written, and not the volume."""

    breaks = ("what_is_uploaded_is_downloaded_with_the_rest_of_the_volume",)

    def download_volume(self, pool: str, name: str, target: BinaryIO, report: Callable[[int], None]) -> None:
        data = self.held(pool, name).data
        target.write(data)
        report(len(data))


class Shrinks(Broken):
    """Makes a volume as large as what is uploaded."""

    breaks = ("what_is_uploaded_is_downloaded_with_the_rest_of_the_volume",)

    def upload_volume(self, pool: str, name: str, source: BinaryIO, report: Callable[[int], None]) -> Volume:
        super().upload_volume(pool, name, source, report)
        held = self.held(pool, name)
        held.size_bytes = len(held.data)
        return self.volume(pool, name)


class ReadsOnce(Broken):
    """Believes that a short read is the last."""

    breaks = ("a_source_that_gives_little_at_a_time_is_read_to_its_end",)

    def upload_volume(self, pool: str, name: str, source: BinaryIO, report: Callable[[int], None]) -> Volume:
        data = source.read(2**30)
        if len(data) > self.held(pool, name).size_bytes:
            raise Refused(name, "is smaller")
        self.held(pool, name).data = data
        report(len(data))
        return self.volume(pool, name)


class OffByOne(Broken):
    """Does not take a source that fills the volume to its last byte."""

    breaks = ("a_source_that_fills_the_volume_fits",)

    def upload_volume(self, pool: str, name: str, source: BinaryIO, report: Callable[[int], None]) -> Volume:
        volume = super().upload_volume(pool, name, source, report)
        if len(self.held(pool, name).data) == volume.size_bytes:
            raise Refused(name, "is smaller")
        return volume


class Truncates(Broken):
    """Takes what fits of a source that is too large."""

    breaks = ("a_source_that_is_larger_than_the_volume_is_refused",)

    def upload_volume(self, pool: str, name: str, source: BinaryIO, report: Callable[[int], None]) -> Volume:
        with suppress(Refused):
            return super().upload_volume(pool, name, source, report)
        return self.volume(pool, name)


class GrowsBeneath(Broken):
    """Refuses a source that is too large after it has made the volume larger for it."""

    breaks = ("a_source_that_is_larger_than_the_volume_is_refused",)

    def upload_volume(self, pool: str, name: str, source: BinaryIO, report: Callable[[int], None]) -> Volume:
        try:
            return super().upload_volume(pool, name, source, report)
        except Refused:
            self.held(pool, name).size_bytes += 512
            raise


class Mute(Broken):
    """Reports nothing."""

    breaks = ("progress_grows_to_all_that_was_moved",)

    def upload_volume(self, pool: str, name: str, source: BinaryIO, report: Callable[[int], None]) -> Volume:
        return super().upload_volume(pool, name, source, lambda _: None)


class ReportsChunks(Broken):
    """Reports how much each step has moved."""

    breaks = ("progress_grows_to_all_that_was_moved",)

    def download_volume(self, pool: str, name: str, target: BinaryIO, report: Callable[[int], None]) -> None:
        super().download_volume(pool, name, target, lambda _: report(65536))


# ------------------------------------------------------------------------------------ resize and clone


class ResizesDown(Broken):
    """Cuts a size to units of a MiB."""

    breaks = ("a_resized_volume_is_as_large_as_was_asked_for_or_larger",)

    def resize_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        return super().resize_volume(pool, name, size_bytes // 2**20 * 2**20 if size_bytes > 2**20 else size_bytes)


class OnlyLarger(Broken):
    """Finds fault with the size that a volume has."""

    breaks = ("the_size_that_a_volume_has_already_is_no_error",)

    def resize_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        if size_bytes == self.volume(pool, name).size_bytes:
            raise InvalidInput("size_bytes", "is the same", str(size_bytes))
        return super().resize_volume(pool, name, size_bytes)


class CutsOff(Broken):
    """Makes volumes smaller."""

    breaks = ("no_volume_is_made_smaller",)

    def resize_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        with suppress(InvalidInput):
            return super().resize_volume(pool, name, size_bytes)
        self.held(pool, name).size_bytes = size_bytes
        return self.volume(pool, name)


class GrowsBeyond(Broken):
    """Looks at the room when volumes are made, and not when they grow."""

    breaks = ("a_volume_does_not_grow_beyond_the_room",)

    def resize_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        with suppress(Refused):
            return super().resize_volume(pool, name, size_bytes)
        self.held(pool, name).size_bytes = size_bytes
        return self.volume(pool, name)


class ResizesAnew(Broken):
    """Resizes by making a new volume."""

    breaks = ("a_resized_volume_keeps_what_it_holds",)

    def resize_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        resized = super().resize_volume(pool, name, size_bytes)
        self.held(pool, name).data = b""
        return resized


class SmallClone(Broken):
    """Makes a clone as large as what was written."""

    breaks = ("a_clone_is_a_volume_of_its_own_and_as_large",)

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        super().clone_volume(pool, name, new_name)
        self.held(pool, new_name).size_bytes //= 2
        return self.volume(pool, new_name)


class ClonesOver(Broken):
    """Clones as `cp` does."""

    breaks = ("a_clone_does_not_get_a_name_that_is_taken",)

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        held = self.held(pool, name)
        with suppress(AlreadyExists):
            return super().clone_volume(pool, name, new_name)
        return self.put(pool, new_name, Held(held.size_bytes, held.data))


class ClonesToAny(Broken):
    """Does not check what a clone is called."""

    breaks = ("a_clone_does_not_get_a_name_that_is_none",)

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        with suppress(InvalidInput):
            return super().clone_volume(pool, name, new_name)
        return self.put(pool, new_name, Held(1))


class EmptyClone(Broken):
    """Clones the size."""

    breaks = ("a_clone_has_the_contents_and_neither_sees_what_is_written_to_the_other",)

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        super().clone_volume(pool, name, new_name)
        self.held(pool, new_name).data = b""
        return self.volume(pool, new_name)


class Linked(Broken):
    """Gives one volume a second name."""

    breaks = (
        "a_clone_has_the_contents_and_neither_sees_what_is_written_to_the_other",
        "a_clone_has_no_snapshots_and_its_volume_no_more_than_before",
    )

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        super().clone_volume(pool, name, new_name)
        return self.put(pool, new_name, self.held(pool, name))


class LeavesItsSnapshot(Broken):
    """Shows the snapshot that it clones from among those of the volume."""

    breaks = ("a_clone_has_no_snapshots_and_its_volume_no_more_than_before",)

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        clone = super().clone_volume(pool, name, new_name)
        self.create_snapshot(pool, name, "for-a-clone")
        return clone


class RefusesWithoutNames(Broken):
    """Has clones that need their volume, and does not say which ones are in the way."""

    breaks = ("a_volume_with_clones_is_removed_or_the_refusal_names_them",)
    cloned: str = ""

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        self.cloned = name
        return super().clone_volume(pool, name, new_name)

    def remove_volume(self, pool: str, name: str) -> None:
        if name == self.cloned:
            raise Refused(f"volume {name}", "has clones")
        super().remove_volume(pool, name)


class ClonedForEver(Broken):
    """Does not notice that the clones of a volume are gone."""

    breaks = ("a_volume_with_clones_is_removed_or_the_refusal_names_them",)

    def __init__(self, storage: MemoryStorage, site: StorageSite) -> None:
        super().__init__(storage, site)
        self.clones: dict[str, list[str]] = {}

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        self.clones.setdefault(name, []).append(new_name)
        return super().clone_volume(pool, name, new_name)

    def remove_volume(self, pool: str, name: str) -> None:
        if name in self.clones:
            raise Refused(f"volume {name}", f"has the clones {', '.join(self.clones[name])}")
        super().remove_volume(pool, name)


class EmptiesClones(Broken):
    """Removes a volume with what its clones have of it."""

    breaks = ("a_clone_keeps_its_contents_whatever_becomes_of_its_volume",)

    def __init__(self, storage: MemoryStorage, site: StorageSite) -> None:
        super().__init__(storage, site)
        self.clones: dict[str, str] = {}

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        self.clones[name] = new_name
        return super().clone_volume(pool, name, new_name)

    def remove_volume(self, pool: str, name: str) -> None:
        super().remove_volume(pool, name)
        if name in self.clones:
            self.held(pool, self.clones[name]).data = b""


class RemovesBoth(Broken):
    """Removes the volume with its clone."""

    breaks = ("a_clone_can_be_removed_and_the_volume_stays",)
    cloned: str = ""
    clone: str = ""

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        self.cloned, self.clone = name, new_name
        return super().clone_volume(pool, name, new_name)

    def remove_volume(self, pool: str, name: str) -> None:
        super().remove_volume(pool, name)
        if name == self.clone:
            self.storage.held[pool].pop(self.cloned, None)
