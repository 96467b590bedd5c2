# SPDX-License-Identifier: Apache-2.0
"""What calls that died have left in the pools of a backend is listed and mended through the API."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from api_cluster import ApiProcess, Cluster

from pvc_core import ApiResource, StorageBackendEntry, hookimpl
from pvc_core.errors import Refused
from pvc_core.plugin_loading import FoundPlugin, installed_plugins
from pvc_core.registry import Registry
from pvc_core.storage import Leftover
from pvc_core.storage_resources import volume_resources
from pvc_core.testing.memory_storage import MIB, MemoryBackend, MemoryStorage

AT = "/storage/memory/repair"
HALF = Leftover("pool", "a clone is half made", "it is removed")
DAMAGED = Leftover("pool", "volume web1 cannot be read")


class Mending(MemoryBackend):
    """A backend with something left over in one of its pools, and another pool in which somebody works."""

    left: Sequence[Leftover] = ()

    def leftovers(self, pool: str) -> Sequence[Leftover]:
        if pool == "busy":
            raise Refused("pool busy", "something is being done in it")
        return type(self).left

    def mend(self, pool: str) -> Sequence[Leftover]:
        type(self).left = [each for each in self.leftovers(pool) if not each.remedy]
        return type(self).left


def served(cluster: Cluster, client: type[MemoryBackend]) -> ApiProcess:
    entry = MemoryStorage({"pool": MIB, "busy": MIB}, client=client).entry()

    class Plugin:
        @hookimpl
        def pvc_storage_backends(self) -> Sequence[StorageBackendEntry]:
            return [entry]

        @hookimpl
        def pvc_api_resources(self) -> Sequence[ApiResource]:
            return volume_resources(entry, mends=True)

    registry = Registry([*installed_plugins([]), FoundPlugin("memory", Plugin)])
    process = ApiProcess(registry.open_store(cluster.url), registry)
    process.connection.open()
    return process


@pytest.fixture(autouse=True)
def something_is_left() -> None:
    Mending.left = [HALF, DAMAGED]


def test_what_is_left_is_listed_and_mended_and_what_cannot_be_stays_with_every_pool_looked_at(cluster: Cluster) -> None:
    process = served(cluster, Mending)
    with process.client(process.token("operator")) as api:
        found = api.get(AT).json()
        assert [each["what"] for each in found["leftovers"]] == [HALF.what, DAMAGED.what]
        assert [(each["pool"], "being done" in each["problem"]) for each in found["problems"]] == [("busy", True)]
        done = api.post(AT, json={}).json()
        assert done["reason"] == "1 repaired, 1 left; not looked at: busy"
        assert ([each["what"] for each in done["repaired"]], [each["what"] for each in done["left"]]) == (
            [HALF.what],
            [DAMAGED.what],
        )
        assert [line["outcome"] for line in process.events("audit")][-1] == done["reason"]
        Mending.left = []
        assert api.post(AT, json={}).json()["reason"] == "nothing is to be repaired; not looked at: busy"
    process.connection.close()


def test_a_backend_that_leaves_nothing_says_so(cluster: Cluster) -> None:
    process = served(cluster, MemoryBackend)
    with process.client(process.token("operator")) as api:
        answer = api.get(AT)
        assert (answer.status_code, "leaves nothing to repair" in answer.json()["detail"]) == (409, True)
    process.connection.close()
