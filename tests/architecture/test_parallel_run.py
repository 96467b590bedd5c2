# SPDX-License-Identifier: Apache-2.0
"""Tests side by side: what shares a process, what begins first, and that nothing stays when the run is interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import house
import pytest
from house import ROOT

from parallel_run import LONGEST_FIRST, group_of, place_in_line
from pvc_lab.waiting import wait_for

INI = "[pytest]\nmarkers =\n    lab: needs the lab\n"
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadscope")
PATIENCE_S = 100
"""Of whoever waits for a run: each begins three interpreters, on a machine that is busy."""

WAITS_FOR_EVER = """
import pathlib, subprocess, threading
import pytest

@pytest.fixture(scope="module")
def server():
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()
    pathlib.Path("put-away-" + pathlib.Path(__file__).stem).touch()

def test_it(server):
    pathlib.Path("server-" + pathlib.Path(__file__).stem).write_text(str(server.pid))
    threading.Event().wait(1000)
"""
LEAVES_A_PROCESS = """
import os, subprocess

def test_it():
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    os._exit(3)
"""
FORKS = """
import os, signal, time
import parallel_run

parallel_run.interrupt_by_signals(again=False)
ends = set()
for _ in range(20):
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    os.kill(child, signal.SIGTERM)
    ends.add(os.waitpid(child, 0)[1])
print(ends)
"""
SAYS_WHERE = """
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(4))
def test_it(number):
    with pathlib.Path(pathlib.Path(__file__).stem + ".seen").open("a") as seen:
        seen.write(f"{os.getpid()} {number}\\n")
"""
OF_THE_WHEEL = """
pytestmark = pytest.mark.usefixtures("wheel")

@pytest.fixture
def wheel():
    pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder for a suite of its own, run as this one is."""
    guards = (ROOT / "tests/conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(guards.replace("ENDING_S = 10.0", "ENDING_S = 0.2"))
    shutil.copy(ROOT / "tests/parallel_run.py", tmp_path)
    (tmp_path / "pytest.ini").write_text(INI)
    return tmp_path


@pytest.fixture
def runs(suite: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Of suites; none outlives the test."""
    begun: list[subprocess.Popen[str]] = []
    yield begun
    for run in begun:
        run.kill()
        run.communicate()


def begin(suite: Path, options: Sequence[str]) -> subprocess.Popen[str]:
    # Whoever runs these tests with nohup has its children ignore what one of them is about.
    command = ["env", "--default-signal=HUP", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=suite, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@pytest.mark.parametrize("markers", [["lab"], ["zookeeper", "libvirt"], ["lab", "libvirt", "timeout"]])
def test_tests_of_real_hosts_share_one_process(markers: list[str]) -> None:
    assert group_of(markers, ["request"]) == "hosts"


def test_tests_of_ceph_share_another() -> None:
    assert group_of(["ceph"], ["wheel"]) == "ceph"
    assert group_of(["ceph", "lab"], []) == "hosts"


def test_tests_of_the_wheel_share_one_process_and_build_it_once() -> None:
    assert group_of([], ["wheel", "environment"]) == "wheel"


def test_any_other_test_stays_with_its_file() -> None:
    assert group_of(["zookeeper", "parametrize"], ["cluster", "environment"]) == ""


def test_real_hosts_begin_first_and_then_what_takes_longest() -> None:
    first = place_in_line("hosts", "tests/docs/test_lab_page.py::test_it")
    wheel = place_in_line("wheel", "tests/kit/test_plugin_drafts.py::test_it")
    long = [place_in_line("", f"{folder}test_a.py::test_it") for folder in LONGEST_FIRST]
    others = {place_in_line("", f"tests/{folder}/test_a.py::test_it") for folder in ("api", "core", "selectors")}
    assert len(others) == 1
    assert [first, wheel, *long, *others] == sorted({first, wheel, *long, *others})


def test_the_folders_that_take_longest_are_there() -> None:
    assert [folder for folder in LONGEST_FIRST if not (ROOT / folder).is_dir()] == []


def test_a_group_runs_in_one_process_whatever_files_it_is_in(suite: Path, runs: list[subprocess.Popen[str]]) -> None:
    """Three files, and three processes that could have one each."""
    for name in ("one", "two", "three"):
        (suite / f"test_{name}.py").write_text(SAYS_WHERE + OF_THE_WHEEL)
    runs.append(begin(suite, ("-n", "3", "--dist", "loadscope")))
    runs[0].communicate(timeout=PATIENCE_S)
    seen = [line.split() for path in suite.glob("*.seen") for line in path.read_text().splitlines()]
    assert len(seen) == 12
    assert len({process for process, _ in seen}) == 1


def test_a_files_tests_run_in_one_process_and_in_order(suite: Path, runs: list[subprocess.Popen[str]]) -> None:
    for name in ("one", "two", "three"):
        (suite / f"test_{name}.py").write_text(SAYS_WHERE)
    runs.append(begin(suite, SIDE_BY_SIDE))
    said, _ = runs[0].communicate(timeout=PATIENCE_S)
    assert "12 passed in " in said.splitlines()[-1]
    for name in ("one", "two", "three"):
        seen = [line.split() for line in (suite / f"test_{name}.seen").read_text().splitlines()]
        assert len({process for process, _ in seen}) == 1
        assert [number for _, number in seen] == ["0", "1", "2", "3"]


INTERRUPTIONS = {
    "Ctrl-C in a terminal reaches all of them": (SIDE_BY_SIDE, "ab", signal.SIGINT, os.killpg),
    "a CI's end reaches the first": (SIDE_BY_SIDE, "ab", signal.SIGTERM, os.kill),
    "in sequence": ((), "a", signal.SIGHUP, os.kill),
}


@pytest.mark.parametrize("how", INTERRUPTIONS)
def test_an_interrupted_run_puts_away_what_its_fixtures_have_set_up(
    suite: Path, runs: list[subprocess.Popen[str]], how: str
) -> None:
    options, tests, number, send = INTERRUPTIONS[how]
    for name in tests:
        (suite / f"test_{name}.py").write_text(WAITS_FOR_EVER)
    runs.append(begin(suite, options))
    servers = [suite / f"server-test_{name}" for name in tests]
    wait_for(lambda: all(path.exists() and path.read_text() for path in servers), "tests", deadline_s=PATIENCE_S)
    send(runs[0].pid, number)
    said, _ = runs[0].communicate(timeout=PATIENCE_S)
    assert runs[0].returncode == pytest.ExitCode.INTERRUPTED
    assert [name for name in tests if not (suite / f"put-away-test_{name}").exists()] == [], said
    assert [path for path in servers if Path(f"/proc/{path.read_text()}").exists()] == []


def test_what_a_test_has_forked_is_ended_by_a_signal_as_any_process_is() -> None:
    assert (
        house.run("python", "-c", FORKS, PYTHONPATH=str(ROOT / "tests"), timeout_s=60).stdout
        == f"{ {int(signal.SIGTERM)} }\n"
    )


def test_what_a_process_that_died_has_left_is_ended_and_fails_the_run(
    suite: Path, runs: list[subprocess.Popen[str]]
) -> None:
    (suite / "test_it.py").write_text(LEAVES_A_PROCESS)
    runs.append(begin(suite, ("-n", "1", "--dist", "loadscope", "--max-worker-restart", "0")))
    said, _ = runs[0].communicate(timeout=PATIENCE_S)
    assert runs[0].returncode == pytest.ExitCode.TESTS_FAILED
    assert "still there after the last test, and killed" in said
    assert "sleep 1000" in said
