# SPDX-License-Identifier: Apache-2.0
"""What can happen to a file and to the processes that share it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc_core.errors import StoreUnavailable
from pvc_core.ports import Create, Entry, SessionState, Set
from pvc_core.testing.store_suite import Recorder, eventually
from pvc_plugins.stores.embedded import SqliteStore
from pvc_plugins.stores.embedded_tables import CHANGES_KEPT
from stores.sqlite_harness import SqliteHarness

HOLDS_AN_EPHEMERAL = """
import os, signal, sys, threading
from pvc_core.ports import Create
from pvc_plugins.stores.embedded import SqliteStore
store = SqliteStore(sys.argv[1])
store.start()
store.transaction([Create("/e", b"", ephemeral=True)])
{then}
threading.Event().wait()
"""
FORKS_AND_DIES = """
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
print(os.getpid(), flush=True)
"""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    harness = SqliteHarness(tmp_path)
    yield harness
    harness.close()


def url_of(harness: SqliteHarness) -> str:
    return f"sqlite://{harness.file}"


def test_the_file_is_readable_by_its_owner_only_and_made_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "store with % and ?.db"
    store = SqliteStore(f"sqlite://{str(path).replace('%', '%25').replace('?', '%3F')}")
    store.start()
    store.transaction([Create("/a", b"secret")])
    files = [file for file in path.parent.iterdir() if file.is_file()]
    assert path in files
    assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in files} == {0}
    store.close()


@pytest.mark.parametrize("content", [b"this is not a database" * 100, None], ids=["other file", "folder"])
def test_what_is_no_store_is_left_alone(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "store.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(StoreUnavailable):
        SqliteStore(f"sqlite://{path}?request_timeout_s=0.2").start()
    assert content is None or path.read_bytes() == content


def test_a_file_of_another_version_is_refused(harness: SqliteHarness) -> None:
    connection = sqlite3.connect(harness.file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailable, match="version 99"):
        harness.new_store()


def test_a_file_that_another_program_keeps_locked_is_unavailable_after_the_timeout(harness: SqliteHarness) -> None:
    harness.new_store().transaction([Create("/a", b"before")])
    store = SqliteStore(f"{url_of(harness)}?request_timeout_s=0.2")
    store.start()
    other = sqlite3.connect(harness.file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.transaction([Set("/a", b"during", 0)])
    assert store.get("/a") == Entry("/a", b"before", 0)
    other.execute("ROLLBACK")
    other.close()
    assert store.transaction([Set("/a", b"after", 0)]) == (1,)
    store.close()


def test_whoever_missed_more_changes_than_are_kept_reads_everything_again(harness: SqliteHarness) -> None:
    writer, store, values = harness.new_store(), harness.new_store(), Recorder[Entry | None]()
    writer.transaction([Create("/quiet", b""), Create("/busy", b"")])
    store.watch("/quiet", values)
    harness.disconnect(store)
    eventually(lambda: store.session_state is SessionState.SUSPENDED, "cut off")
    writer.transaction([Set("/quiet", b"changed", 0)])
    step = 4000
    for start in range(0, CHANGES_KEPT + 2 * step, step):
        writer.transaction([Set("/busy", b"", start + number) for number in range(step)])
    harness.reconnect(store)
    values.wait_for_last(Entry("/quiet", b"changed", 1))


def test_a_file_put_in_place_of_another_is_noticed(harness: SqliteHarness) -> None:
    store, values = harness.new_store(), Recorder[Entry | None]()
    states = Recorder[SessionState]()
    store.transaction([Create("/a", b"old")])
    store.watch("/a", values)
    store.add_session_listener(states)
    before = store.session_id
    backup = harness.file.with_name("backup.db")
    connection, copy = sqlite3.connect(harness.file), sqlite3.connect(backup)
    connection.backup(copy)
    copy.execute("UPDATE nodes SET data = CAST('restored' AS BLOB), stamp = 77 WHERE key = '/a'")
    copy.execute("DELETE FROM sessions")
    copy.commit()
    copy.close()
    connection.close()
    for side in harness.file.parent.glob(f"{harness.file.name}-???"):
        side.unlink()
    shutil.move(backup, harness.file)
    values.wait_for_last(Entry("/a", b"restored", 0))
    states.wait_for_last(SessionState.CONNECTED)
    assert SessionState.LOST in states.told
    assert store.session_id != before


def test_a_session_ends_with_its_process_although_a_forked_child_lives_on(harness: SqliteHarness) -> None:
    store = harness.new_store()
    script = HOLDS_AN_EPHEMERAL.format(then=FORKS_AND_DIES)
    command = [sys.executable, "-c", script, url_of(harness)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child_id = int(process.stdout.readline())
        try:
            eventually(lambda: store.get("/e") is None, "the parent's ephemeral is gone")
        finally:
            os.kill(child_id, signal.SIGKILL)


def test_a_stopped_process_keeps_its_session(harness: SqliteHarness) -> None:
    store = harness.new_store()
    script = HOLDS_AN_EPHEMERAL.format(then="")
    with subprocess.Popen([sys.executable, "-c", script, url_of(harness)]) as process:
        eventually(lambda: store.get("/e") is not None, "the process has its ephemeral")
        process.send_signal(signal.SIGSTOP)
        try:
            harness.new_store()  # looks for dead sessions when it starts
            assert store.get("/e") is not None
        finally:
            process.kill()


def test_a_forked_child_cannot_use_the_parents_store(harness: SqliteHarness) -> None:
    script = HOLDS_AN_EPHEMERAL.format(
        then="""
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    store.get("/e")
except Exception as error:
    os._exit(0 if "forked" in str(error) else 2)
os._exit(1)
"""
    )
    assert subprocess.run([sys.executable, "-c", script, url_of(harness)], check=False, timeout=60).returncode == 0
