# SPDX-License-Identifier: Apache-2.0
"""What the store's suite cannot reach: programs that are stopped or die, and the moment at which a link is cut."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from pvc_core.errors import Conflict, StoreUnavailable
from pvc_core.ports import Create, SessionState, Set
from pvc_simulator.scheduler import Process, Scheduler
from pvc_simulator.simulated_store import SimulatedStore
from pvc_simulator.store_server import SESSION_TIMEOUT_S, StoreServer
from pvc_simulator.virtual_threads import VirtualClock

CONNECTED, SUSPENDED, LOST = SessionState.CONNECTED, SessionState.SUSPENDED, SessionState.LOST


class Program:
    """One that has a store, on a host whose link can be cut."""

    def __init__(self, room: Room, name: str) -> None:
        self.is_reachable = True
        self.told: list[SessionState] = []
        self.process = Process(room.scheduler, name)
        self._room = room
        self.store = SimulatedStore(
            room.server,
            room.scheduler,
            room.random,
            self.process,
            VirtualClock(room.scheduler),
            lambda: self.is_reachable,
        )

    def link(self, *, is_reachable: bool) -> None:
        self.is_reachable = is_reachable
        self.store.link_changed()

    def stop(self) -> None:
        self.process.stop()
        self.store.link_changed()

    def go_on(self) -> None:
        self.process.go_on()
        self.store.link_changed()

    def kill(self) -> None:
        self.process.kill()
        self.store.vanish()

    def does(self, body: Callable[[], object]) -> None:
        """On a thread of its own, which must end well, in its own time."""
        self.process.spawn("does", lambda: _ignore(body()))


class Room:
    """Servers, and time that passes when a test says so."""

    def __init__(self, seed: int = 0) -> None:
        self.scheduler = Scheduler()
        self.random = Random(seed)
        self.server = StoreServer(self.scheduler, self.random)

    def program(self, name: str) -> Program:
        """One whose store is started, with an ephemeral key of its name."""
        program = Program(self, name)
        program.does(program.store.start)
        self.passes(0.1)
        program.does(lambda: program.store.transaction([Create(f"/{name}", b"", ephemeral=True)]))
        program.store.add_session_listener(program.told.append)
        self.passes(0.1)
        return program

    def passes(self, seconds: float) -> None:
        self.scheduler.run_until(self.scheduler.now_s + seconds)
        assert self.scheduler.failures == []

    def has(self, key: str) -> bool:
        return self.server.tree.stamped(key) is not None


@pytest.fixture
def room() -> Room:
    return Room()


def test_a_stopped_programs_session_ends_and_it_learns_that_once_when_it_goes_on(room: Room) -> None:
    program = room.program("hv1")
    before = program.store.session_id
    program.stop()
    room.passes(SESSION_TIMEOUT_S + 0.1)
    assert not room.has("/hv1")
    assert program.told == []
    program.go_on()
    room.passes(5)
    assert program.told == [LOST, CONNECTED]
    assert program.store.session_id != before


def test_a_program_that_is_stopped_for_a_moment_keeps_its_session_and_notices_nothing(room: Room) -> None:
    program = room.program("hv1")
    before = program.store.session_id
    program.stop()
    room.passes(SESSION_TIMEOUT_S / 2)
    program.go_on()
    room.passes(60)
    assert room.has("/hv1")
    assert program.told == []
    assert program.store.session_id == before


def test_a_request_of_a_program_whose_session_has_ended_while_it_was_stopped_fails(room: Room) -> None:
    program, failed = room.program("hv1"), []
    program.stop()
    room.passes(60)

    def write() -> None:
        with pytest.raises(StoreUnavailable):
            program.store.transaction([Create("/late", b"")])
        failed.append(True)

    program.does(write)
    program.go_on()
    room.passes(20)
    assert failed
    assert not room.has("/late")
    assert program.told == [LOST, CONNECTED]


def test_a_link_that_is_cut_while_a_program_is_stopped_is_noticed_when_it_goes_on(room: Room) -> None:
    program = room.program("hv1")
    program.stop()
    program.link(is_reachable=False)
    room.passes(30)
    program.go_on()
    room.passes(30)
    assert program.told == [SUSPENDED]
    program.link(is_reachable=True)
    room.passes(5)
    assert program.told == [SUSPENDED, LOST, CONNECTED]


def test_a_program_that_is_stopped_before_it_has_noticed_a_cut_notices_it_afterwards(room: Room) -> None:
    program = room.program("hv1")
    program.link(is_reachable=False)
    room.passes(1)
    program.stop()
    room.passes(60)
    program.go_on()
    room.passes(10)
    assert program.told == [SUSPENDED]


def test_the_session_of_a_killed_program_ends_after_its_time_and_not_before(room: Room) -> None:
    program = room.program("hv1")
    program.kill()
    room.passes(SESSION_TIMEOUT_S / 2)
    assert room.has("/hv1")
    room.passes(SESSION_TIMEOUT_S)
    assert not room.has("/hv1")


def test_after_an_outage_of_all_servers_every_session_has_its_full_time_again(room: Room) -> None:
    living, dead = room.program("hv1"), room.program("hv2")
    session_id = living.store.session_id
    dead.kill()
    room.server.switch(on=False)
    room.passes(600)
    assert room.has("/hv2")
    room.server.switch(on=True)
    room.passes(SESSION_TIMEOUT_S - 0.1)
    assert room.has("/hv2")
    room.passes(0.2)
    assert not room.has("/hv2")
    assert room.has("/hv1")
    assert living.told == [SUSPENDED, CONNECTED]
    assert living.store.session_id == session_id


def test_a_start_waits_for_servers_that_come_in_time_and_gives_up_on_others(room: Room) -> None:
    early, late = Program(room, "early"), Program(room, "late")
    refused = []

    def start_in_vain() -> None:
        with pytest.raises(StoreUnavailable):
            early.store.start()
        refused.append(room.scheduler.now_s)

    room.server.switch(on=False)
    early.does(start_in_vain)
    room.scheduler.at(8, lambda: late.does(late.store.start))
    room.scheduler.at(15, lambda: room.server.switch(on=True))
    room.passes(20)
    assert len(refused) == 1
    assert 10 <= refused[0] < 11
    assert late.store.session_state is CONNECTED
    early.does(early.store.start)
    room.passes(1)
    assert early.store.session_state is CONNECTED


def test_a_write_under_way_when_the_link_is_cut_is_done_or_not_and_its_author_cannot_tell() -> None:
    seen = set()
    for seed in range(40):
        room, told = Room(seed), []
        program = room.program("hv1")

        def write(program: Program = program, told: list[str] = told) -> None:
            try:
                program.store.transaction([Create("/written", b"")])
                told.append("done")
            except StoreUnavailable:
                told.append("unavailable")

        program.does(write)
        room.passes(0.002)
        program.link(is_reachable=False)
        room.passes(30)
        seen.add((*told, room.has("/written")))
    assert seen == {("done", True), ("unavailable", True), ("unavailable", False)}


def test_what_changes_while_a_tree_is_read_for_its_renaming_stops_that(room: Room) -> None:
    renamer, writer, conflicts = room.program("hv1"), room.program("hv2"), []
    renamer.does(lambda: renamer.store.ensure(["/old/a/deep"]))
    room.passes(1)

    def rename() -> None:
        with pytest.raises(Conflict) as caught:
            renamer.store.rename("/old", "/new")
        conflicts.append(caught.value.key)

    renamer.does(rename)
    room.passes(0.006)
    writer.does(lambda: writer.store.transaction([Set("/old", b"changed", 0)]))
    room.passes(1)
    assert conflicts == ["/old"]
    assert not room.has("/new")


def test_a_session_that_the_servers_end_is_lost_once_and_followed_by_another(room: Room) -> None:
    program = room.program("hv1")
    room.server.expire(program.store.session_id)
    room.passes(5)
    assert program.told == [SUSPENDED, LOST, CONNECTED]


def test_a_watch_learns_what_changed_while_its_program_was_stopped(room: Room) -> None:
    watcher, writer, values = room.program("hv1"), room.program("hv2"), []
    watcher.does(lambda: watcher.store.watch("/a", lambda entry: values.append(entry and entry.data)))
    room.passes(1)
    watcher.stop()
    writer.does(lambda: writer.store.transaction([Create("/a", b"new")]))
    room.passes(1)
    assert values == [None]
    watcher.go_on()
    room.passes(1)
    assert values == [None, b"new"]


def test_a_watch_learns_what_changed_while_its_program_was_cut_off_and_knew_it(room: Room) -> None:
    watcher, writer, values = room.program("hv1"), room.program("hv2"), []
    session_id = watcher.store.session_id
    watcher.does(lambda: watcher.store.watch("/a", lambda entry: values.append(entry and entry.data)))
    room.passes(1)
    watcher.link(is_reachable=False)
    while not watcher.told:
        room.passes(0.1)
    writer.does(lambda: writer.store.transaction([Create("/a", b"new")]))
    room.passes(0.1)
    watcher.link(is_reachable=True)
    room.passes(1)
    assert watcher.told == [SUSPENDED, CONNECTED]
    assert watcher.store.session_id == session_id
    assert values == [None, b"new"]


def test_many_keys_are_not_read_at_one_moment(room: Room) -> None:
    """As ZooKeeper answers them: in their order, and others write in between."""
    reader, writer, read = room.program("hv1"), room.program("hv2"), []
    reader.does(lambda: reader.store.ensure(["/a", "/b"]))
    room.passes(1)

    def write() -> None:
        for version in range(300):
            writer.store.transaction([Set("/a", b"", version), Set("/b", b"", version)])

    def look() -> None:
        for _ in range(300):
            found = reader.store.get_many(["/a", "/b"])
            read.append(found["/b"].version - found["/a"].version)

    writer.does(write)
    reader.does(look)
    room.passes(10)
    assert len(read) == 300
    assert set(read) == {0, 1}


def _ignore(_value: object) -> None:
    """So that a thread's body returns nothing."""
