# SPDX-License-Identifier: Apache-2.0
"""storage_rules_pools: what a storage backend says of itself and of its pools, and what it says of a missing one."""

from __future__ import annotations

from io import BytesIO

import pytest

from pvc_core.errors import NotFound
from pvc_core.storage import CAPABILITY_PROTOCOLS, StorageBackend, StorageCapability, StorageHealth
from pvc_core.testing.storage_bench import ELSEWHERE, SIZE_BYTES, StorageBench, StorageRules, unreported


class PoolRules(StorageRules):
    """A backend as a whole, and pools."""

    def test_its_capabilities_are_known_ones_and_stay_the_same(self) -> None:
        backend = self.backend()
        capabilities = backend.capabilities
        assert isinstance(capabilities, frozenset), f"{type(capabilities).__name__} instead of a frozenset"
        assert all(type(each) is StorageCapability for each in capabilities), f"unknown: {capabilities}"
        assert backend.capabilities == capabilities == self.client(ELSEWHERE).capabilities

    def test_it_implements_every_capability_that_it_names(self) -> None:
        backend = self.backend()
        named = {str(each): CAPABILITY_PROTOCOLS.get(each, object) for each in backend.capabilities}
        missing = [
            f"{name}: {method}"
            for name, protocol in {"storage": StorageBackend, **named}.items()
            for method in vars(protocol)
            if not method.startswith("_") and not hasattr(backend, method)
        ]
        assert not missing, f"methods are missing: {', '.join(missing)}"

    def test_it_says_that_it_can_be_used(self) -> None:
        health = self.backend().health()
        assert type(health) is StorageHealth, f"{type(health).__name__} instead of a StorageHealth"
        assert health.usable is True, f"the suite needs storage that can be used: {health.detail}"
        assert "\n" not in health.detail, "the detail has several lines"

    def test_pools_are_listed_sorted_with_the_one_that_is_used(self) -> None:
        with self.bench() as bench:
            pools = bench.backend.pools()
            assert list(pools) == sorted(pools)
            assert len(set(pools)) == len(pools), "a pool is listed twice"
            assert bench.pool in pools

    def test_storage_that_is_shared_is_so_in_every_pool(self) -> None:
        backend = self.backend()
        shared = {pool: backend.is_shared(pool) for pool in backend.pools()}
        assert all(type(each) is bool for each in shared.values()), f"no bools: {shared}"
        if StorageCapability.SHARED in backend.capabilities:
            assert all(shared.values()), f"the capability `shared` is named, and not every pool is: {shared}"

    def test_the_usage_of_a_pool_is_possible(self) -> None:
        with self.bench() as bench:
            bench.create()
            usage = bench.backend.usage(bench.pool)
            assert 0 <= usage.free_bytes <= usage.total_bytes, f"{usage} cannot be"
            assert usage.total_bytes > 0

    def test_nothing_is_done_in_a_pool_that_does_not_exist(self) -> None:
        with self.bench() as bench:
            pool, volume = bench.name(), bench.create().name
            for what in _calls(bench):
                with bench.missing(what):
                    _call(bench, what, pool, volume)
            assert pool not in bench.backend.pools(), "it exists now"

    def test_nothing_is_done_with_a_volume_that_does_not_exist(self) -> None:
        with self.bench() as bench:
            missing = bench.name()
            for what in set(_calls(bench)) - {"is_shared", "usage", "volumes", "create_volume"}:
                with bench.missing(what):
                    _call(bench, what, bench.pool, missing)

    def test_an_error_about_something_missing_names_it(self) -> None:
        with self.bench() as bench:
            pool, volume = bench.name(), bench.name()
            with pytest.raises(NotFound) as raised:
                bench.backend.usage(pool)
            assert raised.value.name == pool, f"another pool is named: {raised.value}"
            with pytest.raises(NotFound) as raised:
                bench.backend.volume(bench.pool, volume)
            assert raised.value.name == volume, f"another volume is named: {raised.value}"


def _calls(bench: StorageBench) -> list[str]:
    """The methods that take a pool, as far as the backend has to have them."""
    protocols = [StorageBackend, *(CAPABILITY_PROTOCOLS.get(each, object) for each in bench.backend.capabilities)]
    named = [method for protocol in protocols for method in vars(protocol) if method in _ARGUMENTS]
    return sorted(named)


_ARGUMENTS = {
    "is_shared": (),
    "usage": (),
    "volumes": (),
    "volume": ("volume",),
    "create_volume": ("volume", "size"),
    "rename_volume": ("volume", "new"),
    "remove_volume": ("volume",),
    "disk_xml": ("volume", "device"),
    "resize_volume": ("volume", "size"),
    "clone_volume": ("volume", "new"),
    "upload_volume": ("volume", "stream", "report"),
    "download_volume": ("volume", "stream", "report"),
    "snapshots": ("volume",),
    "create_snapshot": ("volume", "new"),
    "rename_snapshot": ("volume", "snapshot", "new"),
    "protect_snapshot": ("volume", "snapshot", "protected"),
    "roll_back": ("volume", "snapshot"),
    "remove_snapshot": ("volume", "snapshot"),
}
"""What each method takes after the pool."""


def _call(bench: StorageBench, method: str, pool: str, volume: str) -> None:
    values = {
        "volume": volume,
        "size": SIZE_BYTES,
        "new": bench.name(),
        "device": "vda",
        "stream": BytesIO(b"data"),
        "report": unreported,
        "snapshot": bench.name(),
        "protected": True,
    }
    getattr(bench.backend, method)(pool, *(values[argument] for argument in _ARGUMENTS[method]))
