# SPDX-License-Identifier: Apache-2.0
"""What only a real ZooKeeper can do to its clients: die and come back, fall silent, answer nonsense, forbid."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from pvc_core.errors import Conflict, StoreUnavailable
from pvc_core.ports import Create, Delete, Entry, Op, SessionState, Set
from pvc_core.store_listening import SessionStates
from pvc_core.store_renaming import Node
from pvc_core.testing.store_suite import Recorder, eventually
from pvc_lab.zookeeper import ZooKeeperServer
from pvc_lab.zookeeper_ensemble import ZooKeeperEnsemble
from pvc_plugins.stores.zookeeper import ZooKeeperStore
from pvc_plugins.stores.zookeeper_options import parse_address
from pvc_plugins.stores.zookeeper_session import ZooKeeperSession
from stores.tcp_proxy import TcpProxy
from stores.zookeeper_harness import ZooKeeperHarness

pytestmark = pytest.mark.zookeeper

Values = Recorder[Entry | None]
States = Recorder[SessionState]
CONNECTED, SUSPENDED, LOST = SessionState.CONNECTED, SessionState.SUSPENDED, SessionState.LOST


@pytest.fixture
def harness(zookeeper: ZooKeeperServer) -> Iterator[ZooKeeperHarness]:
    harness = ZooKeeperHarness(zookeeper)
    yield harness
    harness.close()


@pytest.fixture
def mortal(zookeeper_is_installed: None, tmp_path: Path) -> Iterator[ZooKeeperServer]:
    """A server of the test's own."""
    with ZooKeeperServer(tmp_path / "zookeeper") as server:
        yield server


def test_a_server_killed_and_restarted_is_found_again_with_watches_and_ephemerals(mortal: ZooKeeperServer) -> None:
    store = ZooKeeperStore(f"zookeeper://{mortal.hosts}/pvc?session_timeout_s=20")
    store.start()
    values, states, session_id = Values(), States(), store.session_id
    store.add_session_listener(states)
    store.ensure(["/vms", "/members"])
    store.transaction([Create("/vms/a", b"0"), Create("/members/hv1", b"", ephemeral=True)])
    store.watch("/vms/a", values)
    for round_number in range(2):
        mortal.kill()
        states.wait_for_last(SUSPENDED)
        with pytest.raises(StoreUnavailable):
            store.get("/vms/a")
        with pytest.raises(StoreUnavailable):
            store.transaction([Set("/vms/a", b"", round_number)])
        mortal.start()
        states.wait_for_last(CONNECTED)
        assert store.get("/vms/a") == Entry("/vms/a", b"%d" % round_number, round_number)
        store.transaction([Set("/vms/a", b"%d" % (round_number + 1), round_number)])
        values.wait_for_last(Entry("/vms/a", b"%d" % (round_number + 1), round_number + 1))
    assert store.children("/members") == ("hv1",)
    assert (store.session_id, LOST in states.told) == (session_id, False)
    store.close()


def test_an_ensemble_goes_on_without_its_leader(zookeeper_is_installed: None, tmp_path: Path) -> None:
    with ZooKeeperEnsemble(tmp_path) as ensemble:
        url = f"zookeeper://{ensemble.hosts}/pvc?session_timeout_s=20"
        writer, reader, values = ZooKeeperStore(url), ZooKeeperStore(url), Values()
        writer.start()
        reader.start()
        writer.transaction([Create("/a", b"", ephemeral=True)])
        reader.watch("/a", values)
        ensemble.leader().kill()
        eventually(lambda: _set(writer, "/a", b"after"), "a write succeeds under the next leader")
        entry = writer.get("/a")
        assert entry is not None
        values.wait_for_last(entry)
        writer.close()
        reader.close()


def test_a_follower_that_lags_behind_the_leader_does_not_show(zookeeper_is_installed: None, tmp_path: Path) -> None:
    with ZooKeeperEnsemble(tmp_path) as ensemble:
        follower = next(server for server in ensemble.servers if server.mode() == "follower")
        writer = ZooKeeperStore(f"zookeeper://{ensemble.leader().hosts}/pvc")
        reader = ZooKeeperStore(f"zookeeper://{follower.hosts}/pvc")
        writer.start()
        reader.start()
        writer.transaction([Create("/a", b"")])
        for version in range(300):
            writer.transaction([Set("/a", b"", version)])
            assert reader.get("/a") == Entry("/a", b"", version + 1)
        writer.close()
        reader.close()


def _set(store: ZooKeeperStore, key: str, data: bytes) -> bool:
    try:
        entry = store.get(key)
        assert entry is not None, "an ephemeral outlives the leader"
        store.transaction([Set(key, data, entry.version)])
    except (StoreUnavailable, Conflict):  # a write whose answer was lost may have been done
        return False
    return True


def test_a_server_that_falls_silent_makes_calls_fail_within_the_request_timeout(zookeeper: ZooKeeperServer) -> None:
    with TcpProxy((zookeeper.host, zookeeper.port)) as proxy:
        store = ZooKeeperStore(f"zookeeper://{proxy.hosts}/silent?request_timeout_s=0.5&session_timeout_s=20")
        store.start()
        proxy.freeze()
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.5 s"):
            store.get("/a")
        assert 0.4 < time.monotonic() - began_s < 10
        proxy.mend()
        assert store.get("/a") is None
        store.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # as is meant here
def test_a_connection_loop_that_died_of_nonsense_is_started_again(harness: ZooKeeperHarness) -> None:
    store, states, values = harness.new_store(), States(), Values()
    store.transaction([Create("/a", b"")])
    store.add_session_listener(states)
    store.watch("/a", values)
    harness.proxies[store].inject(b"\0\0\0\x10" + b"\x77" * 16)  # an answer to nothing that was asked
    states.wait_until(lambda told: LOST in told and told[-1] is CONNECTED, "connected again")
    eventually(lambda: store.get("/a") == Entry("/a", b"", 0), "usable again")
    store.transaction([Set("/a", b"seen", 0)])
    values.wait_for_last(Entry("/a", b"seen", 1))


def test_start_fails_when_no_server_answers_and_can_be_tried_again(mortal: ZooKeeperServer) -> None:
    mortal.kill()
    store = ZooKeeperStore(f"zookeeper://{mortal.hosts}/?connect_timeout_s=0.3")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"within 0\.3 s"):
            store.start()
        assert store.session_state is LOST
    mortal.start()
    eventually(lambda: _starts(store), "the store starts")
    assert store.children("/") == ()
    store.close()


def _starts(store: ZooKeeperStore) -> bool:
    try:
        store.start()
    except StoreUnavailable:
        return False
    return True


def test_the_chroot_is_created_and_keeps_stores_apart(zookeeper: ZooKeeperServer) -> None:
    stores = [ZooKeeperStore(f"zookeeper://{zookeeper.hosts}/chroots/{name}/deep") for name in ("one", "two")]
    for store in stores:
        store.start()
    stores[0].transaction([Create("/a", b"")])
    assert (stores[0].children("/"), stores[1].children("/")) == (("a",), ())
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    "meddling",
    [[Set("/old/child", b"changed", 0)], [Create("/old/added", b"")], [Create("/old/child/added", b"")],
     [Delete("/old/child", 0)], [Set("/old", b"changed", 0)]],
    ids=str,
)  # fmt: skip
def test_whatever_changes_while_a_rename_reads_stops_it(harness: ZooKeeperHarness, meddling: list[Op]) -> None:
    class MeddledStore(ZooKeeperStore):
        def read_subtree(self, key: str) -> list[Node]:
            found = super().read_subtree(key)
            other.transaction(meddling)
            return found

    other = harness.new_store()
    other.transaction([Create("/old", b""), Create("/old/child", b"")])
    store = MeddledStore(harness.opener.args[0])  # type: ignore[attr-defined]
    store.start()
    with pytest.raises(Conflict) as caught:
        store.rename("/old", "/new", [Create("/also", b"")])
    assert caught.value.key.startswith("/old")
    assert other.children("/") == ("old",)
    store.close()


def test_whoever_has_been_connected_finds_the_session_however_late_others_are_told(zookeeper: ZooKeeperServer) -> None:
    class SlowStates(SessionStates):
        def change(self, state: SessionState) -> None:
            time.sleep(0.2)
            super().change(state)

    session = ZooKeeperSession(parse_address(f"zookeeper://{zookeeper.hosts}/"), SlowStates(), lambda: None)
    session.start()
    assert session.session_id
    assert session.request(lambda client: client.exists_async("/")) is not None
    session.close()


def test_a_start_that_is_refused_leaves_no_session_and_may_be_repeated(zookeeper: ZooKeeperServer) -> None:
    owner = ZooKeeperStore(f"zookeeper://{zookeeper.hosts}/fenced-off?user=pvc&password=secret")
    owner.start()
    store, states = ZooKeeperStore(f"zookeeper://{zookeeper.hosts}/fenced-off/below"), States()
    store.add_session_listener(states)
    with pytest.raises(StoreUnavailable, match="denied"):
        store.start()
    assert (store.client_id, store.session_state) == (None, LOST)
    states.wait_for_last(LOST)
    owner.ensure(["/below"])
    store.start()
    states.wait_for_last(CONNECTED)
    store.close()
    owner.close()


def test_with_a_user_nobody_else_reads_what_is_written(zookeeper: ZooKeeperServer) -> None:
    url = f"zookeeper://{zookeeper.hosts}/guarded"
    store = ZooKeeperStore(f"{url}?user=pvc&password=p%26ss+word")
    store.start()
    store.ensure(["/tokens"])
    store.transaction([Create("/tokens/a", b"secret"), Create("/tokens/b", b"", ephemeral=True)])
    stranger = KazooClient(zookeeper.hosts)
    stranger.start()
    for path in ("/guarded", "/guarded/tokens", "/guarded/tokens/a", "/guarded/tokens/b"):
        with pytest.raises(NoAuthError):
            stranger.get(path)
    stranger.stop()
    stranger.close()
    outsider = ZooKeeperStore(f"{url}?user=pvc&password=wrong")
    outsider.start()
    with pytest.raises(StoreUnavailable, match="denied"):
        outsider.get("/tokens/a")
    with pytest.raises(StoreUnavailable, match="/tokens/a"):
        outsider.transaction([Set("/tokens/a", b"", 0)])
    with pytest.raises(StoreUnavailable, match="denied"):
        outsider.watch("/tokens/a", Values())
    outsider.close()
    assert store.get("/tokens/a") == Entry("/tokens/a", b"secret", 0)
    store.close()
