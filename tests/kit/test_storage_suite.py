# SPDX-License-Identifier: Apache-2.0
"""The suite for storage backends: the one in memory passes it, and every backend that breaks a rule is caught."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from kit import broken_contents, broken_nodes, broken_snapshots, broken_storage
from kit.broken_storage import Broken, Ruthless
from kit.suite_proof import assert_every_rule_can_fail, assert_keeps_all, suite_of, verdicts
from kit.suite_proof import broken as broken_rules
from pvc_core.errors import Refused
from pvc_core.storage import PoolUsage, StorageCapability, StorageSite, Volume
from pvc_core.testing.memory_storage import MIB, Held, MemoryBackend, MemoryStorage
from pvc_core.testing.storage_bench import difference
from pvc_core.testing.storage_suite import StorageBackendSuite

MODULES = (broken_storage, broken_contents, broken_snapshots, broken_nodes)
BROKEN = [
    found
    for module in MODULES
    for found in vars(module).values()
    if isinstance(found, type) and issubclass(found, Broken) and found.__module__ == module.__name__ and found.breaks
]
CAUGHT = [(f"test_{rule}", broken) for broken in BROKEN for rule in broken.breaks]


class Thin(MemoryBackend):
    """Takes room only for what is written."""

    def usage(self, pool: str) -> PoolUsage:
        total_bytes = super().usage(pool).total_bytes
        return PoolUsage(total_bytes, total_bytes - sum(len(held.data) for held in self.storage.held[pool].values()))


class Stacked(MemoryBackend):
    """Has its snapshots one upon the other, so that it cannot go back to one without losing those above it."""

    def roll_back(self, pool: str, volume: str, name: str) -> Volume:
        self.kept(pool, volume, name)
        if name != self.snapshots(pool, volume)[-1].name:
            raise Refused(f"snapshot {name}", "is not the latest")
        return super().roll_back(pool, volume, name)


class Layered(MemoryBackend):
    """Keeps of a clone only what differs from its source, as Ceph does, so that the source has to stay."""

    def __init__(self, storage: MemoryStorage, site: StorageSite) -> None:
        super().__init__(storage, site)
        self.source_of: dict[int, Held] = {}

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        clone = super().clone_volume(pool, name, new_name)
        self.source_of[id(self.held(pool, new_name))] = self.held(pool, name)
        return clone

    def remove_volume(self, pool: str, name: str) -> None:
        removed = self.held(pool, name)
        volumes = self.storage.held[pool].items()
        clones = [each for each, held in volumes if self.source_of.get(id(held)) is removed]
        if clones:
            raise Refused(f"volume {name}", f"has the clones {', '.join(clones)}")
        super().remove_volume(pool, name)
        self.source_of.pop(id(removed), None)


def suite_for(storage: MemoryStorage) -> type[Any]:
    return suite_of(StorageBackendSuite, storage.entry(), attached=lambda self, volume: storage.attached(volume))


def kept_and_skipped(capabilities: Collection[StorageCapability]) -> dict[str, str]:
    return verdicts(suite_for(MemoryStorage(capabilities=capabilities)))


def test_the_storage_in_memory_passes() -> None:
    assert_keeps_all(suite_for(MemoryStorage()))


@pytest.mark.parametrize("unit_mib", [3, 16])
def test_storage_with_units_of_its_own_passes(unit_mib: int) -> None:
    assert_keeps_all(suite_for(MemoryStorage({"pool": 1024 * MIB}, unit_bytes=unit_mib * MIB)))


@pytest.mark.parametrize("client", [Thin, Stacked, Layered])
def test_storage_that_works_in_another_way_passes(client: type[MemoryBackend]) -> None:
    assert_keeps_all(suite_for(MemoryStorage(client=client)))


def test_a_suite_leaves_nothing_behind() -> None:
    storage = MemoryStorage()
    storage.open(StorageSite("hv1")).create_volume("pool", "somebodys", MIB)
    assert_keeps_all(suite_for(storage))
    assert list(storage.held["pool"]) == ["somebodys"]
    assert storage.shut_out == set()


def test_rules_about_capabilities_that_are_not_named_are_skipped_and_said_to_be() -> None:
    found = kept_and_skipped(())
    assert set(found.values()) == {"kept", "skipped"}
    assert found["test_a_name_is_taken_once"] == "kept"
    assert found["test_a_clone_is_a_volume_of_its_own_and_as_large"] == "skipped"


@pytest.mark.parametrize("capability", StorageCapability)
def test_each_capability_has_rules_of_its_own(capability: StorageCapability) -> None:
    with_none, with_one = kept_and_skipped(()), kept_and_skipped([capability])
    assert set(with_one.values()) == {"kept", "skipped"}
    more = {rule for rule, verdict in with_one.items() if verdict == "kept" and with_none[rule] == "skipped"}
    assert more


def test_rules_about_volumes_in_use_are_skipped_where_the_author_does_not_say_how() -> None:
    found = verdicts(suite_of(StorageBackendSuite, MemoryStorage().entry()))
    skipped = {rule for rule, verdict in found.items() if verdict == "skipped"}
    assert skipped == {f"test_{rule}" for rule in Ruthless.breaks}


@pytest.mark.parametrize(("rule", "broken"), CAUGHT, ids=[f"{broken.__name__}-{rule}" for rule, broken in CAUGHT])
def test_the_suite_catches_a_broken_backend(rule: str, broken: type[Broken]) -> None:
    assert verdicts(suite_for(MemoryStorage(client=broken)), rule)[rule] not in ("kept", "skipped")


def test_the_suite_catches_an_entry_without_a_summary() -> None:
    entry = replace(MemoryStorage().entry(), summary="")
    assert "test_its_summary_is_one_line" in broken_rules(suite_of(StorageBackendSuite, entry))


def test_every_rule_for_storage_backends_can_fail() -> None:
    assert_every_rule_can_fail(StorageBackendSuite, ["test_its_summary_is_one_line", *(rule for rule, _ in CAUGHT)])


@pytest.mark.parametrize(
    ("held", "sentence"),
    [
        (b"data and more", ""),
        (b"date", "byte 3 of 4 is 0x65 instead of 0x61"),
        (b"da", "byte 2 of 4 is nothing instead of 0x74"),
    ],
)
def test_contents_that_differ_are_told_by_the_first_byte_that_does(held: bytes, sentence: str) -> None:
    assert difference(held, b"data") == sentence
