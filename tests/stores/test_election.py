# SPDX-License-Identifier: Apache-2.0
"""What an election makes of a store that tells it little. The rules that hold on every store are in the suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pvc_core import layout
from pvc_core.election import Election, holder_of
from pvc_core.ports import Create, Delete, Entry, Subscription
from pvc_core.testing.store_suite import Recorder, eventually
from pvc_plugins.stores.embedded import SqliteStore

Epochs = Recorder[int | None]


class SilentWatchStore(SqliteStore):
    """Its watches tell of nothing after "there is no such key": what came has gone before they looked."""

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        listener(None)
        return super().watch(key, lambda _: None)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/store.db"


@pytest.fixture
def store(url: str) -> Iterator[SqliteStore]:
    store = SqliteStore(url)
    store.start()
    yield store
    store.close()


def test_a_seat_taken_and_freed_between_two_looks_of_the_watch_is_taken_over(store: SqliteStore, url: str) -> None:
    leader, epochs = Election(store, "hv1", Epochs()), Epochs()
    leader.start()
    eventually(lambda: leader.epoch == 1, "hv1 leads")
    silent = SilentWatchStore(url)
    silent.start()
    follower = Election(silent, "hv2", epochs)
    follower.start()
    leader.stop()
    epochs.wait_until(lambda told: told == [2], "hv2 leads")
    follower.stop()
    silent.close()


def test_a_leader_whose_seat_was_taken_away_by_hand_leads_again_in_a_new_epoch(store: SqliteStore) -> None:
    epochs = Epochs()
    election = Election(store, "hv1", epochs)
    election.start()
    epochs.wait_for_last(1)
    store.transaction([Delete(layout.LEADER_HOLDER, 0)])
    epochs.wait_for_last(2)
    assert epochs.told == [1, None, 2]
    election.stop()


def test_a_seat_with_something_else_on_it_is_nobodys_and_left_alone(store: SqliteStore) -> None:
    epochs = Epochs()
    store.ensure([layout.LEADER])
    store.transaction([Create(layout.LEADER_HOLDER, b"not a holder")])
    election = Election(store, "hv1", epochs)
    election.start()
    assert holder_of(store.get(layout.LEADER_HOLDER)) is None
    store.transaction([Delete(layout.LEADER_HOLDER, 0)])
    epochs.wait_for_last(1)
    election.stop()


def test_stopping_twice_or_before_the_start_does_no_harm(store: SqliteStore) -> None:
    election = Election(store, "hv1", Epochs())
    election.stop()
    election = Election(store, "hv1", Epochs())
    election.start()
    election.stop()
    election.stop()
    assert store.get(layout.LEADER_HOLDER) is None
