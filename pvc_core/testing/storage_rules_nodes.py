# SPDX-License-Identifier: Apache-2.0
"""storage_rules_nodes: several threads and several nodes use one storage, and a node that is shut out stays out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest

from pvc_core.errors import AlreadyExists, NotFound, PvcError, Refused
from pvc_core.storage import StorageBackend, fence_clients
from pvc_core.testing.storage_bench import ELSEWHERE, MIB, SIZE_BYTES, StorageBench, StorageRules

AT_ONCE = 6
ROUNDS = 3


class ThreadRules(StorageRules):
    """Calls at the same moment."""

    def test_of_creations_of_one_name_at_once_exactly_one_wins(self) -> None:
        with self.bench() as bench:
            for _ in range(ROUNDS):
                name = bench.name()
                failures = _at_once([_creating(bench, name)] * AT_ONCE)
                _assert_one_wins(failures, AlreadyExists)
                assert bench.listed().count(name) == 1

    def test_of_renamings_to_one_name_at_once_exactly_one_wins(self) -> None:
        with self.bench() as bench:
            for _ in range(ROUNDS):
                names, new = [bench.create(MIB).name for _ in range(AT_ONCE)], bench.name()
                _assert_one_wins(_at_once([_renaming(bench, name, new) for name in names]), AlreadyExists)
                assert len({*names, new} & set(bench.listed())) == AT_ONCE, "a volume is lost"

    def test_of_removals_at_once_exactly_one_wins(self) -> None:
        with self.bench() as bench:
            for _ in range(ROUNDS):
                name = bench.create(MIB).name
                removals = [_removing(bench, name)] * AT_ONCE
                # The others may come when it is gone already, or while it is being removed.
                _assert_one_wins(_at_once(removals), NotFound, Refused)
                assert name not in bench.listed()

    def test_creations_at_once_do_not_share_room(self) -> None:
        with self.bench() as bench:
            most_bytes = bench.free_bytes() * 2 // 3
            names = [bench.name() for _ in range(AT_ONCE)]
            failures = _at_once([_creating(bench, name, most_bytes) for name in names])
            made = set(names) & set(bench.listed())
            assert all(isinstance(each, Refused) for each in failures), f"no refusals: {failures}"
            assert len(made) == AT_ONCE - len(failures), "a volume that was refused is there, or another is not"
            if bench.backend.usage(bench.pool).free_bytes < most_bytes:
                assert len(made) == 1, f"{len(made)} volumes have {most_bytes} bytes each, and there is room for one"

    def test_volumes_made_at_once_are_all_there_and_listings_meanwhile_are_right(self) -> None:
        with self.bench() as bench:
            stays = bench.create(MIB).name

            def come_and_go() -> None:
                for _ in range(ROUNDS):
                    name = bench.create(MIB).name
                    bench.backend.remove_volume(bench.pool, name)

            def look() -> None:
                for _ in range(ROUNDS * 10):
                    names = bench.listed()
                    assert names == sorted(names)
                    assert stays in names, "a volume that nobody has touched is not listed"

            names = [bench.name() for _ in range(AT_ONCE)]
            creations = [_creating(bench, name) for name in names]
            failures = _at_once([*creations, come_and_go, come_and_go, look, look])
            assert not failures, f"calls at once disturb one another: {failures}"
            assert set(names) <= set(bench.listed())


class NodeRules(StorageRules):
    """Capabilities `shared` and `fence-clients`."""

    @contextmanager
    def fenced(self, bench: StorageBench) -> Iterator[None]:
        """As long as this lasts, the lost node is shut out, by what PVC makes of the backend's verdict."""
        fencing, lost = bench.fencing(), self.lost()
        try:
            verdict = fence_clients(self.entry(), fencing, lost, self.registry().calls, self.options())
            assert verdict.confirmed, verdict.detail
            assert verdict.detail, "the operator is not told what was done"
            yield
        finally:
            fencing.admit_clients(lost)

    def test_what_one_node_makes_another_has(self) -> None:
        with self.bench() as bench:
            if not bench.backend.is_shared(bench.pool):
                pytest.skip("the pool is not shared")
            made, there = bench.create(), self.client(ELSEWHERE)
            assert there.volume(bench.pool, made.name).size_bytes == made.size_bytes
            assert made.name in [volume.name for volume in there.volumes(bench.pool)]
            there.remove_volume(bench.pool, made.name)
            assert made.name not in bench.listed()

    def test_a_node_that_is_shut_out_cannot_write_and_others_can(self) -> None:
        with self.bench() as bench:
            bench.fencing()
            there = self.client(ELSEWHERE)
            there.create_volume(bench.pool, bench.name(), SIZE_BYTES)
            with self.fenced(bench):
                _assert_cannot_write(bench, there, "a client that was there before")
                bench.create()

    def test_a_node_that_is_shut_out_stays_out_when_it_comes_back(self) -> None:
        with self.bench() as bench, self.fenced(bench):
            _assert_cannot_write(bench, self.client(ELSEWHERE), "a client that was started after that")

    def test_a_node_that_is_shut_out_already_is_confirmed_again(self) -> None:
        with self.bench() as bench, self.fenced(bench), self.fenced(bench):
            pass

    def test_a_node_that_is_admitted_writes_again(self) -> None:
        with self.bench() as bench:
            with self.fenced(bench):
                pass
            self.client(ELSEWHERE).create_volume(bench.pool, bench.name(), SIZE_BYTES)

    def test_a_node_that_was_never_shut_out_is_admitted(self) -> None:
        with self.bench() as bench:
            for _ in range(2):
                bench.fencing().admit_clients(self.lost())


def _assert_cannot_write(bench: StorageBench, there: StorageBackend, who: str) -> None:
    with bench.refusal(PvcError, f"{who} makes a volume"):
        there.create_volume(bench.pool, bench.name(), SIZE_BYTES)


def _creating(bench: StorageBench, name: str, size_bytes: int = MIB) -> Callable[[], object]:
    return lambda: bench.create(size_bytes, name=name)


def _removing(bench: StorageBench, name: str) -> Callable[[], object]:
    return lambda: bench.backend.remove_volume(bench.pool, name)


def _renaming(bench: StorageBench, name: str, new: str) -> Callable[[], object]:
    return lambda: bench.backend.rename_volume(bench.pool, name, new)


def _at_once(calls: Sequence[Callable[[], object]]) -> list[BaseException]:
    """Call all of these at the same moment; what was raised."""
    ready = Barrier(len(calls))

    def call(question: Callable[[], object]) -> object:
        ready.wait()
        return question()

    with ThreadPoolExecutor(len(calls)) as threads:
        asked = [threads.submit(call, question) for question in calls]
    return [error for each in asked if (error := each.exception()) is not None]


def _assert_one_wins(failures: Sequence[BaseException], *expected: type[PvcError]) -> None:
    assert len(failures) == AT_ONCE - 1, f"{AT_ONCE - len(failures)} of {AT_ONCE} have won: {failures}"
    wrong = [repr(each) for each in failures if not isinstance(each, expected)]
    assert not wrong, f"{' or '.join(each.__name__ for each in expected)} is expected: {', '.join(wrong)}"
