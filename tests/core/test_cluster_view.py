# SPDX-License-Identifier: Apache-2.0
"""cluster_view: the watched copy shows what was written, never goes back, and commits only what still holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lagging_store import LaggingStore

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.cluster_view import COMMIT_ATTEMPTS, ClusterView
from pvc_core.codec import encode
from pvc_core.commands import Commands
from pvc_core.errors import AlreadyExists, BrokenRecord, Conflict, NotFound, Refused, StoreUnavailable
from pvc_core.model import NodeMode, NodeRecord, NodeReport, Settings, VmMetadata, VmState
from pvc_core.ports import Check, Create, Delete, Entry, Set
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.system_clock import SystemClock
from pvc_core.testing.builders import a_rule, a_vm, uuid_of
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.testing.store_harness import DEADLINE_S, eventually
from pvc_plugins.stores.embedded import SqliteStore

VM = layout.vm(uuid_of("web1"))
Xml = Callable[..., str]


@pytest.fixture
def lagging(cluster: Any) -> Any:
    """The view on a store with two nodes and a VM, whose watches lag for ever."""
    cluster.add_nodes("hv1", "hv2")
    cluster.put(VM, a_vm(state="stopped"))
    cluster.lagging = LaggingStore(cluster.store)
    cluster.copy = cluster.new_view(cluster.lagging)
    return cluster


def written(cluster: Any, **fields: Any) -> Entry:
    """Another process changes web1; the entry it leaves."""
    entry = cluster.store.get(VM)
    data = entry.data if entry else encode(a_vm(state="stopped"))
    changed = msgspec.json.encode({**msgspec.json.decode(data), **fields})
    cluster.store.transaction([Set(VM, changed, entry.version) if entry else Create(VM, changed)])
    after = cluster.store.get(VM)
    assert isinstance(after, Entry)
    return after


def own_write(cluster: Any, **fields: Any) -> Entry:
    """This process changes web1, as its copy knows it."""

    def decide(snapshot: ClusterSnapshot) -> Change:
        stored = snapshot.vm("web1")
        after = msgspec.structs.replace(stored.value, **fields)
        return Change((changes.write_vm(stored, after),), "", after)

    cluster.copy.commit(decide)
    entry = cluster.store.get(VM)
    assert isinstance(entry, Entry)
    return entry


def own_delete(cluster: Any) -> Entry:
    entry = cluster.store.get(VM)
    assert isinstance(entry, Entry)
    assert cluster.copy.try_commit(Change((Delete(VM, entry.version),), ""), cluster.copy.snapshot())
    return entry


def shown(cluster: Any) -> tuple[int, str] | None:
    """Version and reason of web1 in the copy."""
    stored = cluster.copy.snapshot().vms.get(uuid_of("web1"))
    return (stored.version, stored.value.reason) if stored else None


# --------------------------------------------------------------------------------------- what it shows


def test_it_begins_with_all_there_is(cluster: Any) -> None:
    cluster.add_nodes("hv1", "hv2", memory_mib=2048)
    cluster.put(VM, a_vm())
    cluster.put(layout.SETTINGS, Settings(memory_reserve_mib=7))
    snapshot = cluster.view.snapshot()
    assert sorted(snapshot.nodes) == ["hv1", "hv2"]
    assert snapshot.nodes["hv1"].is_alive
    assert snapshot.nodes["hv2"].report.value.memory_total_mib == 2048
    assert (snapshot.vm("web1").value, snapshot.settings.memory_reserve_mib) == (a_vm(), 7)


def test_an_empty_store_is_an_empty_cluster_with_default_settings(cluster: Any) -> None:
    snapshot = cluster.view.snapshot()
    assert (dict(snapshot.nodes), dict(snapshot.vms), snapshot.settings) == ({}, {}, Settings())
    assert snapshot.settings_version == -1


def test_it_follows_what_other_processes_write_and_delete(cluster: Any) -> None:
    view, other = cluster.view, cluster.new_store()
    other.transaction([Create(VM, encode(a_vm())), Create(layout.SETTINGS, encode(Settings(start_failures=9)))])
    assert view.wait_for(lambda s: "web1" in s.uuid_by_name and s.settings.start_failures == 9, DEADLINE_S)
    other.transaction([Delete(VM, 0), Delete(layout.SETTINGS, 0)])
    assert view.wait_for(lambda s: not s.vms and s.settings == Settings(), DEADLINE_S)


def test_a_snapshot_that_was_taken_does_not_change(lagging: Any) -> None:
    before = lagging.copy.snapshot()
    own_write(lagging, reason="later")
    assert before.vm("web1").value.reason == ""
    assert lagging.copy.snapshot().vm("web1").value.reason == "later"


def test_as_long_as_nothing_changes_it_is_the_same_snapshot(lagging: Any) -> None:
    first, generation = lagging.copy.snapshot(), lagging.copy.generation
    assert lagging.copy.snapshot() is first
    own_write(lagging, reason="x")
    assert lagging.copy.snapshot() is not first
    assert lagging.copy.generation > generation


def test_a_node_of_which_nothing_has_changed_is_the_same_in_the_next_snapshot(lagging: Any) -> None:
    before = lagging.copy.snapshot()
    own_write(lagging, reason="x")
    after = lagging.copy.snapshot()
    assert after is not before
    assert after.nodes["hv1"] is before.nodes["hv1"]


def test_the_names_of_vms_and_the_vms_of_a_node_are_found_in_it(lagging: Any) -> None:
    snapshot = lagging.copy.snapshot()
    assert snapshot.uuid_by_name == {"web1": uuid_of("web1")}
    assert [vm.value.name for vm in snapshot.vms_by_node["hv1"]] == ["web1"]


# --------------------------------------------------------------------------- own writes, and watches that lag


def test_own_writes_show_at_once_although_no_watch_has_told(lagging: Any, xml: Xml) -> None:
    commands = Commands(lagging.copy, lagging.lagging, lagging.registry, ManualClock())
    commands.define(xml("web2"), VmMetadata(node_limit=("hv2",)))
    assert lagging.copy.snapshot().node("hv2").reserved.memory_mib == 512
    commands.rename("web2", "db1")
    assert sorted(lagging.copy.snapshot().uuid_by_name) == ["db1", "web1"]
    commands.start("web1")
    assert lagging.copy.snapshot().vm("web1").value.state is VmState.STARTING
    commands.flush("hv1")
    assert lagging.copy.snapshot().node("hv1").mode is NodeMode.FLUSHING
    commands.change_settings({"start_failures": 7})
    assert lagging.copy.snapshot().settings.start_failures == 7


def test_an_own_delete_shows_at_once(lagging: Any) -> None:
    own_delete(lagging)
    assert shown(lagging) is None


def test_a_watch_that_lags_behind_own_writes_does_not_take_them_back(lagging: Any) -> None:
    old = lagging.store.get(VM)
    first = own_write(lagging, reason="first")
    second = own_write(lagging, reason="second")
    for late in (old, first, second):
        lagging.lagging.tells(VM, late)
        assert shown(lagging) == (2, "second")


def test_a_watch_that_has_caught_up_is_believed_again(lagging: Any) -> None:
    lagging.lagging.tells(VM, own_write(lagging, reason="own"))
    lagging.lagging.tells(VM, written(lagging, reason="theirs"))
    assert shown(lagging) == (2, "theirs")


def test_a_watch_that_is_ahead_of_own_writes_is_believed(lagging: Any) -> None:
    own_write(lagging, reason="own")
    lagging.lagging.tells(VM, written(lagging, reason="theirs"))
    assert shown(lagging) == (2, "theirs")


def test_a_watch_that_lags_behind_an_own_delete_does_not_bring_the_record_back(lagging: Any) -> None:
    old = lagging.store.get(VM)
    newer = own_write(lagging, reason="newer")
    own_delete(lagging)
    for late in (old, newer, None):
        lagging.lagging.tells(VM, late)
        assert shown(lagging) is None


def test_a_watch_that_tells_late_of_an_older_delete_does_not_hide_what_was_made_since(lagging: Any) -> None:
    own_delete(lagging)
    lagging.copy.try_commit(Change((Create(VM, encode(a_vm(reason="new"))),), ""), lagging.copy.snapshot())
    lagging.lagging.tells(VM, None)
    assert shown(lagging) == (0, "new")


def test_a_record_that_others_deleted_and_made_anew_is_shown_although_its_version_is_lower(lagging: Any) -> None:
    """The watch reports both as one; the versions of the new key count from 0 again."""
    own_write(lagging, reason="a")
    own = own_write(lagging, reason="b")
    lagging.store.transaction([Delete(VM, own.version)])
    lagging.lagging.tells(VM, written(lagging, reason="another life"))
    assert shown(lagging) == (0, "another life")
    lagging.lagging.tells(VM, written(lagging, reason="goes on"))
    assert shown(lagging) == (1, "goes on")


def test_a_record_made_anew_by_others_after_an_own_delete_is_shown(lagging: Any) -> None:
    own_write(lagging, reason="a")
    own_delete(lagging)
    lagging.lagging.tells(VM, written(lagging, reason="another life"))
    assert shown(lagging) == (0, "another life")


def test_a_record_that_others_deleted_after_an_own_write_is_gone(lagging: Any) -> None:
    own = own_write(lagging, reason="a")
    lagging.store.transaction([Delete(VM, own.version)])
    lagging.lagging.tells(VM, None)
    assert shown(lagging) is None


def test_a_doubt_costs_one_request_and_no_doubt_costs_none(lagging: Any) -> None:
    old = lagging.store.get(VM)
    own = own_write(lagging, reason="a")
    lagging.lagging.reset()
    lagging.lagging.tells(VM, own)
    assert lagging.lagging.requests == 0
    own_write(lagging, reason="b")
    lagging.lagging.reset()
    lagging.lagging.tells(VM, old)
    assert lagging.lagging.requests == 1


def test_a_doubt_while_the_store_does_not_answer_believes_the_watch_and_misses_nothing(lagging: Any) -> None:
    own = own_write(lagging, reason="a")
    lagging.store.transaction([Delete(VM, own.version)])
    lagging.lagging.is_away = True
    lagging.lagging.tells(VM, None)
    assert shown(lagging) is None


def test_settings_obey_the_same_rules(lagging: Any) -> None:
    commands = Commands(lagging.copy, lagging.lagging, lagging.registry, ManualClock())
    commands.change_settings({"start_failures": 7})
    first = lagging.store.get(layout.SETTINGS)
    commands.change_settings({"start_failures": 8})
    for late in (None, first):
        lagging.lagging.tells(layout.SETTINGS, late)
        assert lagging.copy.snapshot().settings.start_failures == 8


# -------------------------------------------------------------------------------------------- committing


def test_a_commit_on_an_old_copy_reads_again_and_decides_again(lagging: Any) -> None:
    written(lagging, reason="theirs", priority=1)
    seen: list[str] = []

    def decide(snapshot: ClusterSnapshot) -> Change:
        stored = snapshot.vm("web1")
        seen.append(stored.value.reason)
        return Change((changes.write_vm(stored, msgspec.structs.replace(stored.value, vcpus=2)),), "")

    lagging.copy.commit(decide)
    assert seen == ["", "theirs"]
    assert lagging.copy.snapshot().vm("web1").value.vcpus == 2


def test_a_commit_finds_out_that_the_record_was_deleted_and_made_anew(lagging: Any) -> None:
    """The copy holds version 2, the store version 0: the conflict is read as what it is."""
    own_write(lagging, reason="a")
    own = own_write(lagging, reason="b")
    lagging.store.transaction([Delete(VM, own.version)])
    written(lagging, reason="another life")
    own_write(lagging, vcpus=2)
    assert shown(lagging) == (1, "another life")


def test_a_commit_finds_out_that_the_record_is_gone(lagging: Any) -> None:
    lagging.store.transaction([Delete(VM, 0)])
    with pytest.raises(NotFound):
        own_write(lagging, reason="x")


def test_a_conflict_that_means_something_definite_raises_that(lagging: Any) -> None:
    taken = Create(layout.vm_name("web1"), b"x")
    lagging.store.transaction([taken])
    change = Change((taken,), "", on_conflict={taken.key: AlreadyExists("VM", "web1")})
    with pytest.raises(AlreadyExists):
        lagging.copy.commit(lambda snapshot: change)


def test_a_decision_that_always_loses_ends_as_a_conflict(lagging: Any) -> None:
    calls: list[int] = []

    def decide(snapshot: ClusterSnapshot) -> Change:
        calls.append(1)
        return Change((Check(VM, 99),), "")

    with pytest.raises(Conflict):
        lagging.copy.commit(decide)
    assert len(calls) == COMMIT_ATTEMPTS


def test_nothing_to_do_is_looked_up_once_and_not_again_when_nothing_was_seen(lagging: Any) -> None:
    stored = lagging.copy.snapshot().vm("web1")
    lagging.lagging.reset()
    lagging.copy.commit(lambda snapshot: changes.already(stored, "so it is"))
    assert lagging.lagging.requests == 1
    lagging.copy.commit(lambda snapshot: Change((), "so it is"))
    assert lagging.lagging.requests == 1


def test_what_was_decided_elsewhere_on_old_data_is_not_written_and_read_anew(lagging: Any) -> None:
    stored = lagging.copy.snapshot().vm("web1")
    written(lagging, reason="theirs")
    assert not lagging.copy.try_commit(Change((changes.write_vm(stored, stored.value),), ""), lagging.copy.snapshot())
    assert shown(lagging) == (1, "theirs")


def test_many_threads_of_one_process_lose_no_change(cluster: Any) -> None:
    cluster.put(VM, a_vm(priority=0))
    view = cluster.view

    def count() -> None:
        for _ in range(10):

            def decide(snapshot: ClusterSnapshot) -> Change:
                stored = snapshot.vm("web1")
                after = msgspec.structs.replace(stored.value, transition=stored.value.transition + 1)
                return Change((changes.write_vm(stored, after),), "")

            view.commit(decide)

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert view.snapshot().vm("web1").value.transition == 60
    assert view.snapshot().vm("web1").version == 60


# ---------------------------------------------------------------------------------------- damaged records


def test_a_record_that_does_not_parse_is_shown_as_broken_until_it_is_repaired(lagging: Any) -> None:
    own_write(lagging, reason="whole")
    entry = lagging.store.get(VM)
    lagging.store.transaction([Set(VM, b"\xff{", entry.version)])
    lagging.lagging.tells(VM, lagging.store.get(VM))
    snapshot = lagging.copy.snapshot()
    assert (dict(snapshot.vms), list(snapshot.broken)) == ({}, [VM])
    with pytest.raises(BrokenRecord):
        snapshot.vm(uuid_of("web1"))

    lagging.store.transaction([Set(VM, encode(a_vm()), entry.version + 1)])
    lagging.lagging.tells(VM, lagging.store.get(VM))
    assert lagging.copy.snapshot().vm("web1").value == a_vm()
    assert lagging.copy.snapshot().broken == {}


def test_a_broken_record_that_is_deleted_is_gone(lagging: Any) -> None:
    lagging.lagging.tells(VM, Entry(VM, b"rubbish", 1))
    lagging.lagging.tells(VM, None)
    assert lagging.copy.snapshot().broken == {}


@pytest.mark.parametrize("part", ["node", "report", "ledger", "member"])
def test_a_broken_part_of_a_node_leaves_the_other_nodes_whole(cluster: Any, part: str) -> None:
    cluster.add_nodes("hv1", "hv2")
    key = {"node": layout.node, "report": layout.report, "ledger": layout.ledger, "member": layout.member}[part]("hv1")
    cluster.put(key, b'{"node": [')
    snapshot = cluster.view.snapshot()
    assert list(snapshot.broken) == [key]
    assert snapshot.nodes["hv2"].is_alive
    assert ("hv1" in snapshot.nodes) == (part != "node")


def test_settings_that_do_not_parse_read_as_the_defaults(cluster: Any) -> None:
    cluster.put(layout.SETTINGS, b"{}x")
    assert cluster.view.snapshot().settings == Settings()
    assert list(cluster.view.snapshot().broken) == [layout.SETTINGS]


# ----------------------------------------------------------------------------------------------- waiting


def test_waiting_ends_at_once_when_it_is_so_already_and_in_time_when_it_never_will_be(cluster: Any) -> None:
    view = cluster.new_view(cluster.store, SystemClock())
    assert view.wait_for(lambda snapshot: True, 0)
    assert not view.wait_for(lambda snapshot: False, 0.01)


def test_waiting_ends_with_the_change_that_is_waited_for(cluster: Any) -> None:
    view = cluster.new_view(cluster.store, SystemClock())
    looked = threading.Event()
    found: list[bool] = []

    def is_there(snapshot: ClusterSnapshot) -> bool:
        looked.set()
        return "web1" in snapshot.uuid_by_name

    waiting = threading.Thread(target=lambda: found.append(view.wait_for(is_there, DEADLINE_S)))
    waiting.start()
    assert looked.wait(DEADLINE_S)
    cluster.store.transaction([Create(VM, encode(a_vm()))])
    waiting.join(DEADLINE_S)
    assert found == [True]


def test_what_a_predicate_raises_ends_the_waiting(cluster: Any) -> None:
    def decide(snapshot: ClusterSnapshot) -> bool:
        raise Refused("x", "no")

    with pytest.raises(Refused):
        cluster.view.wait_for(decide, DEADLINE_S)


def test_waiting_for_news_ends_with_a_change(lagging: Any) -> None:
    seen = lagging.copy.wait_news(-1, 0)
    assert lagging.copy.wait_news(seen, 0) == seen
    own_write(lagging, reason="x")
    assert lagging.copy.wait_news(seen, DEADLINE_S) > seen


def test_a_report_with_other_figures_is_no_news_and_one_of_another_session_is(cluster: Any) -> None:
    cluster.add_nodes("hv1")
    view = cluster.view
    first = view.snapshot().node("hv1").report
    seen, generation = view.wait_news(-1, 0), view.generation

    def reports(version: int, **fields: object) -> None:
        report = msgspec.structs.replace(first.value, **fields)
        cluster.store.transaction([Set(first.key, encode(report), version)])

    reports(first.version, load_1m=7.0)
    assert view.wait_for(lambda snapshot: snapshot.node("hv1").report.value.load_1m == 7.0, DEADLINE_S)
    assert view.generation > generation
    assert view.wait_news(seen, 0) == seen
    reports(first.version + 1, session="another")
    assert view.wait_news(seen, DEADLINE_S) > seen


# -------------------------------------------------------------------------------------- the age of reports


def test_a_report_that_does_not_change_grows_old_by_the_observers_own_clock(cluster: Any) -> None:
    cluster.add_nodes("hv1", "hv2")
    clock, store = ManualClock(), LaggingStore(cluster.store)
    view = cluster.new_view(store, clock)
    clock.advance(31)
    assert {name: node.report_age_s for name, node in view.snapshot().nodes.items()} == {"hv1": 31, "hv2": 31}
    report = NodeReport(node="hv1", memory_total_mib=1, memory_available_mib=1, cores=1, load_1m=0)
    store.tells(layout.report("hv1"), Entry(layout.report("hv1"), encode(report), 1))
    assert {name: node.report_age_s for name, node in view.snapshot().nodes.items()} == {"hv1": 0, "hv2": 31}


def test_the_wall_clock_of_a_report_does_not_matter(cluster: Any) -> None:
    cluster.add_nodes("hv1")
    report = NodeReport(
        node="hv1", memory_total_mib=1, memory_available_mib=1, cores=1, load_1m=0, reported_at="1970-01-01T00:00:00Z"
    )
    cluster.put(layout.report("hv1"), report)
    assert cluster.view.snapshot().nodes["hv1"].report_age_s == 0


# ---------------------------------------------------------------------------------------- without the store


@pytest.fixture
def detachable(tmp_path: Path, cluster: Any) -> Any:
    """A second way to the same file, which can be taken away."""
    cluster.add_nodes("hv1")
    cluster.put(VM, a_vm(state="stopped"))
    cluster.link = tmp_path / "link"
    cluster.link.symlink_to(tmp_path, target_is_directory=True)
    cluster.remote = SqliteStore(f"sqlite://{cluster.link}/store.db?synchronous=normal")
    cluster.remote.start()
    cluster.copy = ClusterView(cluster.remote, SystemClock())
    cluster.copy.start()
    yield cluster
    cluster.copy.close()
    cluster.remote.close()


def test_while_the_store_is_away_nothing_is_shown_or_written_and_then_it_comes_back_by_itself(detachable: Any) -> None:
    detachable.link.unlink()
    with pytest.raises(StoreUnavailable):
        detachable.copy.wait_for(lambda snapshot: False, DEADLINE_S)  # it wakes with the session's change
    with pytest.raises(StoreUnavailable):
        detachable.copy.snapshot()
    with pytest.raises(StoreUnavailable):
        own_write(detachable, reason="never")

    written(detachable, reason="meanwhile")
    detachable.link.symlink_to(detachable.folder, target_is_directory=True)
    eventually(lambda: detachable.remote.session_state.value == "connected", "connected again")
    assert detachable.copy.wait_for(lambda s: s.vm("web1").value.reason == "meanwhile", DEADLINE_S)
    own_write(detachable, reason="afterwards")
    assert shown(detachable) == (2, "afterwards")


def test_after_the_session_was_lost_the_copy_is_complete_again(detachable: Any) -> None:
    session = detachable.remote.session_id
    detachable.store.expire_session(session)
    eventually(lambda: detachable.remote.session_id != session, "another session")
    detachable.store.transaction([Create(layout.node("hv2"), encode(NodeRecord(name="hv2")))])
    eventually(lambda: detachable.remote.session_state.value == "connected", "connected again")
    assert detachable.copy.wait_for(lambda snapshot: "hv2" in snapshot.nodes, DEADLINE_S)


def test_a_view_that_was_closed_is_told_nothing_more(cluster: Any) -> None:
    view = cluster.new_view(cluster.store)
    view.close()
    generation = view.generation
    cluster.put(VM, a_vm())
    other = cluster.new_view()
    assert "web1" in other.snapshot().uuid_by_name
    assert view.generation == generation


def test_rules_are_seen_by_name_and_one_that_does_not_parse_is_kept_as_broken(cluster: Any) -> None:
    cluster.put(layout.rule("web-apart"), a_rule("web-apart", "apart", "web1", "web2", hard=True))
    cluster.put(layout.rule("odd"), b"{}")
    snapshot = cluster.new_view().snapshot()
    assert [stored.value.members for stored in snapshot.rules.values()] == [("web1", "web2")]
    assert list(snapshot.broken) == [layout.rule("odd")]
