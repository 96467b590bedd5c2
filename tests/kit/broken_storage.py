# SPDX-License-Identifier: Apache-2.0
"""broken_storage: storage backends with one mistake each, as they are made in earnest, and the rules that they break.

Every class is the backend in memory but for one method. `breaks` names the rules that have to notice. What is wrong
with contents, snapshots and nodes is in modules of its own.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, Refused
from pvc_core.storage import PoolUsage, StorageHealth, Volume
from pvc_core.testing.memory_storage import Held, MemoryBackend


class Broken(MemoryBackend):
    """The backend in memory, to be broken in one method."""

    breaks: ClassVar[tuple[str, ...]] = ()
    """Rules, without "test_"."""

    def put(self, pool: str, name: str, held: Held) -> Volume:
        """Past all checks."""
        self.storage.held[pool][name] = held
        return self.volume(pool, name)


# ------------------------------------------------------------------------------------------- the whole


class Listing(Broken):
    """Names its capabilities in a list."""

    breaks = ("its_capabilities_are_known_ones_and_stay_the_same",)

    @property
    def capabilities(self) -> Any:
        return list(super().capabilities)


class Boasting(Broken):
    """Names a capability that PVC does not know."""

    breaks = ("its_capabilities_are_known_ones_and_stay_the_same",)

    @property
    def capabilities(self) -> Any:
        return super().capabilities | {"deduplication"}


class SharedInPart(Broken):
    """Names the capability `shared` and has a pool that is a node's own."""

    breaks = ("storage_that_is_shared_is_so_in_every_pool",)

    def is_shared(self, pool: str) -> bool:
        return super().is_shared(pool) and False


class Promising(Broken):
    """Names the capability `resize` and has no method for it."""

    breaks = ("it_implements_every_capability_that_it_names",)

    def __getattribute__(self, name: str) -> Any:
        if name == "resize_volume":
            raise AttributeError(name)
        return super().__getattribute__(name)


class Ailing(Broken):
    """Is never usable."""

    breaks = ("it_says_that_it_can_be_used",)

    def health(self) -> StorageHealth:
        return StorageHealth(False, "no monitor answers")


class TruthyHealth(Broken):
    """Answers yes or no."""

    breaks = ("it_says_that_it_can_be_used",)

    def health(self) -> Any:
        return True


class UnsortedPools(Broken):
    """Lists pools as they come."""

    breaks = ("pools_are_listed_sorted_with_the_one_that_is_used",)

    def pools(self) -> tuple[str, ...]:
        return (*super().pools(), "another")


class Overdrawn(Broken):
    """Subtracts replicas from what is free, and not from what there is."""

    breaks = ("the_usage_of_a_pool_is_possible",)

    def usage(self, pool: str) -> PoolUsage:
        usage = super().usage(pool)
        return PoolUsage(usage.total_bytes // 3, usage.free_bytes)


class KeyErrors(Broken):
    """Lets its own exceptions out."""

    breaks = ("nothing_is_done_in_a_pool_that_does_not_exist",)

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        self.storage.held[pool]
        return super().disk_xml(pool, name, device)


class MakesPools(Broken):
    """Makes a pool where there is none."""

    breaks = ("nothing_is_done_in_a_pool_that_does_not_exist",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        self.storage.held.setdefault(pool, {})
        self.storage.pool_bytes.setdefault(pool, 2**30)
        return super().create_volume(pool, name, size_bytes)


class Indifferent(Broken):
    """Takes "is not there" for "was removed"."""

    breaks = ("nothing_is_done_with_a_volume_that_does_not_exist", "of_removals_at_once_exactly_one_wins")

    def remove_volume(self, pool: str, name: str) -> None:
        if name in self.storage.held.get(pool, {}):
            super().remove_volume(pool, name)


class Anonymous(Broken):
    """Says that something is missing, and not what."""

    breaks = ("an_error_about_something_missing_names_it",)

    def volume(self, pool: str, name: str) -> Volume:
        try:
            return super().volume(pool, name)
        except NotFound as error:
            raise NotFound(error.kind, "it") from None


# ------------------------------------------------------------------------------------- create and list


class AsTuple(Broken):
    """Returns the parts of a volume."""

    breaks = ("a_volume_is_what_was_asked_for",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Any:
        made = super().create_volume(pool, name, size_bytes)
        return pool, name, made.size_bytes


class FullPath(Broken):
    """Names a volume with its pool."""

    breaks = ("a_volume_is_what_was_asked_for",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        return replace(super().create_volume(pool, name, size_bytes), name=f"{pool}/{name}")


class RoundsDown(Broken):
    """Has units of a MiB and cuts the rest off."""

    breaks = ("a_size_is_never_rounded_down",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        return super().create_volume(pool, name, max(size_bytes // 2**20 * 2**20, min(size_bytes, 1)))


class SaysWhatWasWanted(Broken):
    """Returns the size that was asked for, whatever the volume has got."""

    breaks = ("a_size_is_never_rounded_down",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        super().create_volume(pool, name, -(-size_bytes // 4096) * 4096)
        return Volume(pool, name, size_bytes)


class ShortNames(Broken):
    """Takes 64 characters at most."""

    breaks = ("a_name_may_have_all_that_names_may_have",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        if len(name) > 64:
            raise InvalidInput("name", "is too long", name)
        return super().create_volume(pool, name, size_bytes)


class Overwrites(Broken):
    """Makes a volume in the place of another."""

    breaks = ("a_name_is_taken_once",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        self.storage.held.get(pool, {}).pop(name, None)
        return super().create_volume(pool, name, size_bytes)


class GrowsWhatIsThere(Broken):
    """Refuses a name that is taken after it has changed the volume."""

    breaks = ("a_name_is_taken_once",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        try:
            return super().create_volume(pool, name, size_bytes)
        except AlreadyExists:
            self.held(pool, name).size_bytes = size_bytes
            raise


class AnyName(Broken):
    """Takes every name for a path."""

    breaks = ("a_name_that_is_none_makes_no_volume",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        try:
            return super().create_volume(pool, name, size_bytes)
        except InvalidInput as error:
            if error.field != "name":
                raise
            return self.put(pool, name, Held(size_bytes))


class NoSize(Broken):
    """Makes volumes of no size."""

    breaks = ("a_size_that_is_none_makes_no_volume",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        if size_bytes == 0:
            return self.put(pool, name, Held(0))
        return super().create_volume(pool, name, size_bytes)


class Overcommits(Broken):
    """Does not look at the room."""

    breaks = ("a_volume_larger_than_the_room_is_refused_and_leaves_nothing_behind",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        with suppress(Refused):
            return super().create_volume(pool, name, size_bytes)
        return self.put(pool, name, Held(size_bytes))


class LeavesAStump(Broken):
    """Writes until there is no room left, and leaves what it has written."""

    breaks = ("a_volume_larger_than_the_room_is_refused_and_leaves_nothing_behind",)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        try:
            return super().create_volume(pool, name, size_bytes)
        except Refused:
            self.put(pool, name, Held(self.usage(pool).free_bytes))
            raise


class AsMade(Broken):
    """Lists volumes in the order in which they were made."""

    breaks = ("a_listing_is_sorted_and_complete",)

    def volumes(self, pool: str) -> tuple[Volume, ...]:
        super().volumes(pool)
        return tuple(self.volume(pool, name) for name in list(self.storage.held[pool]))


class FirstPage(Broken):
    """Lists the first two."""

    breaks = ("a_listing_is_sorted_and_complete",)

    def volumes(self, pool: str) -> tuple[Volume, ...]:
        return super().volumes(pool)[:2]


# ----------------------------------------------------------------------------------- rename and remove


class Copies(Broken):
    """Renames by a copy and keeps the original."""

    breaks = ("a_renamed_volume_keeps_its_size_and_frees_its_name",)

    def rename_volume(self, pool: str, name: str, new_name: str) -> Volume:
        held = self.held(pool, name)
        renamed = super().rename_volume(pool, name, new_name)
        self.put(pool, name, held)
        return renamed


class MakesAnew(Broken):
    """Renames by making an empty volume of that size."""

    breaks = ("a_renamed_volume_keeps_what_it_holds", "snapshots_go_with_a_volume_that_is_renamed")

    def rename_volume(self, pool: str, name: str, new_name: str) -> Volume:
        renamed = super().rename_volume(pool, name, new_name)
        return self.put(pool, new_name, Held(renamed.size_bytes))


class MovesOver(Broken):
    """Renames as `mv` does."""

    breaks = ("a_volume_does_not_get_a_name_that_is_taken", "of_renamings_to_one_name_at_once_exactly_one_wins")

    def rename_volume(self, pool: str, name: str, new_name: str) -> Volume:
        with self.storage.lock:
            self.held(pool, name)
            self.storage.held[pool].pop(new_name, None)
            return super().rename_volume(pool, name, new_name)


class RenamesToAny(Broken):
    """Checks names when volumes are made, and not when they are renamed."""

    breaks = ("a_volume_does_not_get_a_name_that_is_none",)

    def rename_volume(self, pool: str, name: str, new_name: str) -> Volume:
        with suppress(InvalidInput):
            return super().rename_volume(pool, name, new_name)
        return self.put(pool, new_name, self.storage.held[pool].pop(name))


class Trash(Broken):
    """Keeps a removed volume's name."""

    breaks = ("a_removed_volume_is_gone_and_its_name_free",)

    def remove_volume(self, pool: str, name: str) -> None:
        super().remove_volume(pool, name)
        self.put(pool, name, Held(1))


class Prefix(Broken):
    """Removes whatever begins with the name."""

    breaks = ("a_removed_volume_is_gone_and_its_name_free",)

    def remove_volume(self, pool: str, name: str) -> None:
        super().remove_volume(pool, name)
        for other in [each for each in self.storage.held[pool] if each.startswith(name[:-1])]:
            del self.storage.held[pool][other]


class Leaks(Broken):
    """Forgets a volume, and not the room that it took."""

    breaks = ("a_removed_volume_frees_its_room",)

    def remove_volume(self, pool: str, name: str) -> None:
        size_bytes = self.volume(pool, name).size_bytes
        super().remove_volume(pool, name)
        self.storage.pool_bytes[pool] -= size_bytes


class Ruthless(Broken):
    """Does not ask who uses a volume."""

    breaks = (
        "a_volume_in_use_is_not_removed",
        "a_volume_in_use_is_not_rolled_back",
        "a_volume_in_use_is_not_filled_and_its_source_not_read",
    )

    def _check_unused(self, pool: str, name: str) -> None: ...


# ----------------------------------------------------------------------------------------------- disks


class Declares(Broken):
    """Writes a document instead of an element."""

    breaks = ("a_disk_is_one_element_for_the_device_that_was_asked_for",)

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        return "<?xml version='1.0'?>" + super().disk_xml(pool, name, device)


class AlwaysVda(Broken):
    """Knows one device."""

    breaks = ("a_disk_is_one_element_for_the_device_that_was_asked_for",)

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        return super().disk_xml(pool, name, "vda")


class TwoElements(Broken):
    """Brings a controller with it."""

    breaks = ("a_disk_is_one_element_for_the_device_that_was_asked_for",)

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        return super().disk_xml(pool, name, device) + "<controller type='scsi'/>"


class OneSource(Broken):
    """Forgets which volume it was asked for."""

    breaks = ("the_disks_of_two_volumes_have_different_sources",)

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        return super().disk_xml(pool, name, device).replace(name, "volume")
