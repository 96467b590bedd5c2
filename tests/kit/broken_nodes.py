# SPDX-License-Identifier: Apache-2.0
"""broken_nodes: storage backends with one mistake each that several threads or nodes notice."""

from __future__ import annotations

import time

from kit.broken_storage import Broken
from pvc_core.errors import NotFound
from pvc_core.fencing import FenceRequest, FenceVerdict
from pvc_core.storage import Volume

PAUSE_S = 0.005
"""Between looking and acting, where a backend does both without a lock."""


class LooksThenMakes(Broken):
    """Looks whether a name is free and whether there is room, and makes the volume a moment later."""

    breaks = ("of_creations_of_one_name_at_once_exactly_one_wins", "creations_at_once_do_not_share_room")

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        with self.storage.lock:
            made = super().create_volume(pool, name, size_bytes)
            held = self.storage.held[pool].pop(name)
        time.sleep(PAUSE_S)
        self.put(pool, name, held)
        return made


class ListsWhileItChanges(Broken):
    """Lists names, and then fails on a volume that has gone meanwhile."""

    breaks = ("volumes_made_at_once_are_all_there_and_listings_meanwhile_are_right",)

    def volumes(self, pool: str) -> tuple[Volume, ...]:
        names = [volume.name for volume in super().volumes(pool)]
        time.sleep(PAUSE_S)
        return tuple(self.volume(pool, name) for name in names)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        made = super().create_volume(pool, name, size_bytes)
        time.sleep(PAUSE_S)
        return made


class Alone(Broken):
    """Says that all nodes share it, and shows each node its own."""

    breaks = ("what_one_node_makes_another_has",)

    def volume(self, pool: str, name: str) -> Volume:
        if self.node != "hv1":
            raise NotFound("volume", name)
        return super().volume(pool, name)


class FencesOnPaper(Broken):
    """Confirms and does nothing."""

    breaks = (
        "a_node_that_is_shut_out_cannot_write_and_others_can",
        "a_node_that_is_shut_out_stays_out_when_it_comes_back",
    )

    def fence_clients(self, request: FenceRequest) -> FenceVerdict:
        return FenceVerdict(True, "it will be off soon")


class FencesAll(Broken):
    """Shuts out whoever asks as well."""

    breaks = ("a_node_that_is_shut_out_cannot_write_and_others_can",)

    def fence_clients(self, request: FenceRequest) -> FenceVerdict:
        self.storage.shut_out.add(self.node)
        return super().fence_clients(request)

    def admit_clients(self, request: FenceRequest) -> None:
        self.storage.shut_out.discard(self.node)
        super().admit_clients(request)


class FencesConnections(Broken):
    """Closes the connections that a node has, and lets it make new ones."""

    breaks = ("a_node_that_is_shut_out_stays_out_when_it_comes_back",)

    def fence_clients(self, request: FenceRequest) -> FenceVerdict:
        verdict = super().fence_clients(request)
        self.storage.shut_out.discard(request.node)
        return verdict


class FencesOnce(Broken):
    """Takes "is out already" for a failure."""

    breaks = ("a_node_that_is_shut_out_already_is_confirmed_again",)

    def fence_clients(self, request: FenceRequest) -> FenceVerdict:
        if request.node in self.storage.shut_out:
            return FenceVerdict(False, "is out already")
        return super().fence_clients(request)


class FencesForEver(Broken):
    """Forgets to let a node in again."""

    breaks = ("a_node_that_is_admitted_writes_again",)

    def admit_clients(self, request: FenceRequest) -> None: ...


class AdmitsOnlyTheFenced(Broken):
    """Finds fault with admitting who is in."""

    breaks = ("a_node_that_was_never_shut_out_is_admitted",)

    def admit_clients(self, request: FenceRequest) -> None:
        if request.node not in self.storage.shut_out:
            raise NotFound("client", request.node)
        super().admit_clients(request)
