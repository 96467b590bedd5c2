# SPDX-License-Identifier: Apache-2.0
"""storage_bench: what the rules for storage backends share: a pool, names, and that an error changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from typing import cast
from uuid import uuid4

import pytest

from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, PvcError, Refused
from pvc_core.fencing import FenceRequest
from pvc_core.storage import (
    ClonesVolumes,
    FencesClients,
    MovesContents,
    ResizesVolumes,
    Snapshot,
    SnapshotsVolumes,
    StorageBackend,
    StorageBackendEntry,
    StorageCapability,
    StorageSite,
    Volume,
)
from pvc_core.testing.driver_suite import DriverSuite

MIB = 2**20
SIZE_BYTES = 4 * MIB
HERE, ELSEWHERE = "hv1", "hv2"
"""The node that most rules work on, and the one that is lost."""
BAD_NAMES = ("", ".", "..", "../up", "a/b", "-a", ".a", "a b", "a\n", "a@b", "a'b", "a<b", "ä", "a" * 128)
"""What `check_volume_name` refuses."""

State = Mapping[str, tuple[int, tuple[Snapshot, ...]]]


@dataclass
class StorageBench:
    """A backend and a pool that nothing else uses during a test. What was made with its names is removed in the end."""

    backend: StorageBackend
    pool: str

    def __post_init__(self) -> None:
        self._prefix = f"suite-{uuid4().hex[:8]}"
        self._names: list[str] = []

    def name(self, sorts: str = "", fill: str = "") -> str:
        """A name that no volume has. sorts: where it stands in a listing. fill: ends the name, up to 127 characters."""
        name = f"{self._prefix}-{sorts or 'm'}{len(self._names)}{fill}"[:127]
        self._names.append(name)
        return name

    def create(self, size_bytes: int = SIZE_BYTES, name: str = "") -> Volume:
        """A new volume."""
        return self.backend.create_volume(self.pool, name or self.name(), size_bytes)

    def volume(self, name: str) -> Volume:
        """A volume as it is now."""
        return self.backend.volume(self.pool, name)

    def listed(self) -> list[str]:
        """The names of the pool's volumes, in the order in which they are listed."""
        return [volume.name for volume in self.backend.volumes(self.pool)]

    def free_bytes(self) -> int:
        """The room that the pool has."""
        return self.backend.usage(self.pool).free_bytes

    def more_than_free_bytes(self) -> int:
        """More than the pool has room for, also when storage that frees late has freed some more meanwhile."""
        return self.free_bytes() * 9 // 8 + MIB

    # ------------------------------------------------------------------------------------- capabilities

    def can(self, capability: StorageCapability) -> bool:
        """Whether the backend names this capability."""
        return capability in self.backend.capabilities

    def need(self, *capabilities: StorageCapability) -> None:
        """Skip a rule that is about a capability which the backend does not name."""
        missing = [capability for capability in capabilities if not self.can(capability)]
        if missing:
            pytest.skip(f"the backend does not name the capability {' and '.join(missing)}")

    def resizing(self) -> ResizesVolumes:
        """The backend as one that resizes, or the rule is skipped."""
        self.need(StorageCapability.RESIZE)
        return cast(ResizesVolumes, self.backend)

    def cloning(self) -> ClonesVolumes:
        """The backend as one that clones, or the rule is skipped."""
        self.need(StorageCapability.CLONE)
        return cast(ClonesVolumes, self.backend)

    def moving(self) -> MovesContents:
        """The backend as one that writes and reads contents, or the rule is skipped."""
        self.need(StorageCapability.CONTENTS)
        return cast(MovesContents, self.backend)

    def keeping(self) -> SnapshotsVolumes:
        """The backend as one with snapshots, or the rule is skipped."""
        self.need(StorageCapability.SNAPSHOTS)
        return cast(SnapshotsVolumes, self.backend)

    def fencing(self) -> FencesClients:
        """The backend as one that shuts nodes out, or the rule is skipped."""
        self.need(StorageCapability.FENCE_CLIENTS)
        return cast(FencesClients, self.backend)

    # ----------------------------------------------------------------------------- contents and snapshots

    def write(self, name: str, data: bytes) -> None:
        """Fill a volume from its beginning."""
        self.moving().upload_volume(self.pool, name, BytesIO(data), unreported)

    def read(self, name: str) -> bytes:
        """All that a volume holds."""
        target = BytesIO()
        self.moving().download_volume(self.pool, name, target, unreported)
        return target.getvalue()

    def snapshot(self, volume: str) -> Snapshot:
        """A new snapshot of a volume."""
        return self.keeping().create_snapshot(self.pool, volume, self.name())

    def snapshots(self, volume: str) -> tuple[Snapshot, ...]:
        """The snapshots of a volume, as they are listed."""
        return self.keeping().snapshots(self.pool, volume)

    # ------------------------------------------------------------------------------------------ refusals

    def state(self) -> State:
        """All volumes of the pool with their sizes and snapshots."""
        keeps = self.can(StorageCapability.SNAPSHOTS)
        volumes = self.backend.volumes(self.pool)
        return {each.name: (each.size_bytes, self.snapshots(each.name) if keeps else ()) for each in volumes}

    @contextmanager
    def refusal(self, kind: type[PvcError], of: str = "") -> Iterator[None]:
        """What is done here has to raise exactly this error, and to change nothing. of: what is tried, in words."""
        before = self.state()
        tried = f"{of}: " if of else ""
        raised: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever is raised instead is what the rule tells
            raised = error
        if not isinstance(raised, kind):
            got = "nothing" if raised is None else f"{type(raised).__name__} ({raised})"
            raise AssertionError(f"{tried}{kind.__name__} is expected, {got} is raised") from raised
        assert self.state() == before, f"{tried}what was refused has changed something"

    def missing(self, of: str = "") -> AbstractContextManager[None]:
        """What is done here has to raise `NotFound`."""
        return self.refusal(NotFound, of)

    def taken(self, of: str = "") -> AbstractContextManager[None]:
        """What is done here has to raise `AlreadyExists`."""
        return self.refusal(AlreadyExists, of)

    def invalid(self, of: str = "") -> AbstractContextManager[None]:
        """What is done here has to raise `InvalidInput`."""
        return self.refusal(InvalidInput, of)

    def refused(self, of: str = "") -> AbstractContextManager[None]:
        """What is done here has to raise `Refused`."""
        return self.refusal(Refused, of)

    def clean_up(self) -> None:
        """Remove what was made. What a backend cannot remove stays: it would hide the rule that the backend broke."""
        # The youngest first: a volume may have to stay for as long as it has clones.
        for name in reversed(self._names):
            with suppress(Exception):
                for snapshot in self.snapshots(name) if self.can(StorageCapability.SNAPSHOTS) else ():
                    self.keeping().protect_snapshot(self.pool, name, snapshot.name, False)
                    self.keeping().remove_snapshot(self.pool, name, snapshot.name)
            with suppress(Exception):
                self.backend.remove_volume(self.pool, name)


class StorageRules(DriverSuite[StorageBackendEntry]):
    """What an author can override, and the bench that the rules work on."""

    kind = "storage_backends"

    def site(self) -> StorageSite:
        """Where the backend works and what is configured for it; within one test always the same storage."""
        return StorageSite(HERE, self.options())

    def backend(self) -> StorageBackend:
        """The backend as the node of `site` has it."""
        return self.entry().open(self.site())

    def pool(self, backend: StorageBackend) -> str:
        """A pool that nothing else uses during a test: the backend's first one, unless this is overridden.

        It needs room for some volumes of 4 MiB. Rules about room reserve two thirds of what is free in it.
        """
        pools = backend.pools()
        assert pools, "the backend has no pool: override `pool` to make one"
        return pools[0]

    def client(self, node: str) -> StorageBackend:
        """The same storage as another node sees it, by a client that has just been started there."""
        return self.entry().open(replace(self.site(), node=node))

    def attached(self, volume: Volume) -> AbstractContextManager[None]:
        """As long as this lasts, a guest uses the volume. Rules about volumes in use are skipped without it."""
        pytest.skip("attached() does not say how a volume is used")

    def lost(self) -> FenceRequest:
        """To shut out the node of `client(ELSEWHERE)`."""
        return FenceRequest(ELSEWHERE, options=self.options())

    @contextmanager
    def bench(self) -> Iterator[StorageBench]:
        """The backend and its pool, for one test."""
        backend = self.backend()
        bench = StorageBench(backend, self.pool(backend))
        try:
            yield bench
        finally:
            bench.clean_up()


def unreported(written_bytes: int) -> None:
    """For transfers whose progress nobody watches."""


def difference(held: bytes, written: bytes) -> str:
    """Where what is held first differs from what was written, in a sentence; "" where it begins with all of that.

    Of contents this long nothing else is told: a test runner that compares them byte by byte takes minutes.
    """
    if held.startswith(written):
        return ""
    at = next((at for at, (here, there) in enumerate(zip(held, written, strict=False)) if here != there), len(held))
    here = f"{held[at]:#04x}" if at < len(held) else "nothing"
    return f"byte {at} of {len(written)} is {here} instead of {written[at]:#04x}"
