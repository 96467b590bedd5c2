# SPDX-License-Identifier: Apache-2.0
"""store_rules_election: at most one leader, a successor soon, no late writes. Part of `store_suite`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest

from pvc_core import layout
from pvc_core.election import Election, Holder, holder_of
from pvc_core.errors import Conflict
from pvc_core.ports import Check, ClusterStore, Create
from pvc_core.testing.store_harness import Recorder, StoreHarness, eventually

Epochs = Recorder[int | None]


@contextmanager
def standing(store: ClusterStore, candidate: str, epochs: Epochs | None = None) -> Iterator[Election]:
    """A started election, stopped at the end."""
    election = Election(store, candidate, epochs or Epochs())
    election.start()
    try:
        yield election
    finally:
        election.stop()


def leads(epochs: Epochs) -> int:
    """Wait until the candidate is told that it leads; its epoch."""
    told = epochs.wait_until(lambda told: bool(told) and told[-1] is not None, "leads")
    assert told[-1] is not None
    return told[-1]


def holder(store: ClusterStore) -> Holder | None:
    return holder_of(store.get(layout.LEADER_HOLDER))


def wait_for_leader(elections: Mapping[str, Election], epoch: int) -> str:
    """The name of the candidate that leads in `epoch`."""
    leaders: list[str] = []

    def one_leads() -> bool:
        leaders[:] = [name for name, election in elections.items() if election.epoch == epoch]
        return bool(leaders)

    eventually(one_leads, f"somebody leads in epoch {epoch}")
    (leader,) = leaders
    return leader


class ElectionRules:
    def test_a_lone_candidate_becomes_the_leader(self, harness: StoreHarness) -> None:
        store, epochs = harness.new_store(), Epochs()
        with standing(store, "hv1", epochs) as election:
            epoch = leads(epochs)
            assert election.epoch == epoch == 1
            assert holder(store) == Holder("hv1", store.session_id, 1)
            assert store.transaction([Check(layout.LEADER_EPOCH, epoch)]) == (1,)
        assert epochs.told == [1, None]

    def test_a_second_candidate_waits_and_follows_when_the_leader_resigns(self, harness: StoreHarness) -> None:
        first, second = Epochs(), Epochs()
        with ExitStack() as stack:
            leader = stack.enter_context(standing(harness.new_store(), "hv1", first))
            assert leads(first) == 1
            stack.enter_context(standing(harness.new_store(), "hv2", second))
            leader.stop()
            assert leads(second) == 2
        assert first.told == [1, None]
        assert second.told == [2, None]

    def test_a_candidate_follows_when_the_leaders_session_expires(self, harness: StoreHarness) -> None:
        store, other, first, second = harness.new_store(), harness.new_store(), Epochs(), Epochs()
        with standing(store, "hv1", first):
            assert leads(first) == 1
            with standing(other, "hv2", second):
                harness.expire_session(store)
                first.wait_until(lambda told: None in told, "the old leader steps down")
                eventually(lambda: (holder(other) or Holder("", "", 0)).epoch == 2, "there is a leader again")

    def test_the_late_write_of_a_deposed_leader_fails(self, harness: StoreHarness) -> None:
        store, other, first, second = harness.new_store(), harness.new_store(), Epochs(), Epochs()
        with standing(store, "hv1", first) as deposed:
            epoch = leads(first)
            with standing(other, "hv2", second):
                deposed.stop()
                assert leads(second) == epoch + 1
                with pytest.raises(Conflict) as caught:
                    store.transaction([Check(layout.LEADER_EPOCH, epoch), Create("/late", b"")])
                assert caught.value.key == layout.LEADER_EPOCH
                assert other.get("/late") is None

    def test_a_leader_that_is_cut_off_steps_down_at_once_and_goes_on_in_the_same_session(
        self, harness: StoreHarness
    ) -> None:
        store, epochs = harness.new_store(), Epochs()
        with standing(store, "hv1", epochs) as election:
            assert leads(epochs) == 1
            harness.disconnect(store)
            epochs.wait_for_last(None)
            assert election.epoch is None
            harness.reconnect(store)
            assert leads(epochs) == 1
            assert epochs.told == [1, None, 1]

    def test_a_leader_whose_session_expired_leads_in_a_new_epoch_only(self, harness: StoreHarness) -> None:
        store, epochs = harness.new_store(), Epochs()
        with standing(store, "hv1", epochs):
            assert leads(epochs) == 1
            harness.expire_session(store)
            epochs.wait_until(lambda told: told[-1] == 2, "leads in epoch 2")
            assert 2 not in epochs.told[: epochs.told.index(None)]
            assert holder(store) == Holder("hv1", store.session_id, 2)

    def test_of_many_candidates_one_leads_and_epochs_only_grow(self, harness: StoreHarness) -> None:
        stores = [harness.new_store() for _ in range(4)]
        epochs = [Epochs() for _ in stores]
        names = [f"hv{number}" for number in range(4)]
        with ExitStack() as stack:
            elections = {
                name: stack.enter_context(standing(store, name, told))
                for name, store, told in zip(names, stores, epochs, strict=True)
            }
            for expected in range(1, 5):
                leader = wait_for_leader(elections, expected)
                assert sum(election.epoch is not None for election in elections.values()) == 1
                elections.pop(leader).stop()
        led = sorted(epoch for told in epochs for epoch in told.told if epoch is not None)
        assert led == [1, 2, 3, 4]

    def test_an_election_may_begin_while_the_store_is_away(self, harness: StoreHarness) -> None:
        store, epochs = harness.new_store(), Epochs()
        harness.disconnect(store)
        with standing(store, "hv1", epochs):
            harness.reconnect(store)
            assert leads(epochs) == 1

    def test_a_listener_that_raises_does_not_end_the_election(self, harness: StoreHarness) -> None:
        store, epochs = harness.new_store(), Epochs()

        def raising(epoch: int | None) -> None:
            epochs(epoch)
            raise RuntimeError("this listener always fails")

        election = Election(store, "hv1", raising)
        election.start()
        try:
            assert leads(epochs) == 1
            harness.expire_session(store)
            epochs.wait_until(lambda told: told[-1] == 2, "leads again")
        finally:
            election.stop()

    def test_whoever_closes_the_store_leads_no_more(self, harness: StoreHarness) -> None:
        store, epochs = harness.new_store(), Epochs()
        with standing(store, "hv1", epochs) as election:
            leads(epochs)
            store.close()
            epochs.wait_for_last(None)
            assert election.epoch is None
