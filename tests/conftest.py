# SPDX-License-Identifier: Apache-2.0
"""Guards for the whole run: real parts are required in CI, the user's own cluster is out of reach, nothing is left.

A test of a real part carries its marker (`zookeeper`, `libvirt`, `lab`, `ceph`) and is skipped where the part
is missing; a fixture that needs one asks with `require`. With CI=true a missing part is a failure, whoever notices it.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from pvc_lab.ceph_cluster import CephCluster
    from wheel_building import Environment

# Before anything imports them: the assertions of the conformance suites explain themselves like those of a test.
pytest.register_assert_rewrite("pvc_core.testing")

pytest_plugins = ["parallel_run"]

REAL_PARTS = ("zookeeper", "libvirt", "lab", "ceph")
RUN_MARK = f"PVC_TEST_RUN={os.environ.get('PVC_TEST_RUN', '')}/{uuid4().hex}"
"""In the environment of all that this process starts, however far it detaches itself; what a run within this one
starts has it as the beginning of its own mark."""
ENDING_S = 10.0
"""How long processes that were told to end may take."""
ZOOKEEPER_THREAD = "(zk_loop)"
"""In the name of the thread on which the ZooKeeper client keeps a session."""
_OUTLIVE_TESTS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def pytest_configure(config: pytest.Config) -> None:
    """What a user has set for their own cluster (connection, token, plugins) has no business in tests."""
    for name in list(os.environ):
        if name.startswith("PVC_") and not name.startswith("PVC_LAB_"):
            del os.environ[name]
    name, _, value = RUN_MARK.partition("=")
    os.environ[name] = value
    from parallel_run import Workers, is_worker

    if not is_worker(config):
        config.pluginmanager.register(Workers(lambda: [number for number, _ in marked_processes(deep=False)]))


# ------------------------------------------------------------------------------------------------ real parts


def in_ci() -> bool:
    """Whether a missing part is a failure."""
    return os.environ.get("CI", "").lower() == "true"


def missing_part(part: str) -> str:
    """Why tests of this part cannot run here; "" when they can."""
    if part == "zookeeper":
        if shutil.which("java") is None or not Path("/usr/share/java/zookeeper.jar").exists():
            return "Java and ZooKeeper are not installed (default-jre-headless, libzookeeper-java)"
        return ""
    if part == "qemu-img":
        missing = [program for program in ("qemu-img", "qemu-nbd") if shutil.which(program) is None]
        return f"there is no {' and no '.join(missing)} here (qemu-utils)" if missing else ""
    from pvc_lab import packages

    if part == "ceph":
        return packages.why_no_ceph()
    problem = packages.why_no_lab()
    if part == "libvirt" and not problem:
        try:
            import libvirt  # noqa: F401
        except ImportError as error:
            return f"the libvirt binding is not installed ({error})"
    return problem


def require_part(part: str) -> None:
    """Skip the test without this part; with CI=true, fail it."""
    problem = missing_part(part)
    if problem and in_ci():
        pytest.fail(f"with CI=true {part} is required: {problem}", pytrace=False)
    if problem:
        pytest.skip(problem)


@pytest.fixture(scope="session")
def require() -> Callable[[str], None]:
    """Call it with the name of the part before using one in a fixture."""
    return require_part


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PVC's wheel, built once per run."""
    from wheel_building import build_wheel

    return build_wheel(tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A virtual environment with PVC from its wheel and nothing of this repository, made once per run."""
    from wheel_building import make_environment

    return make_environment(tmp_path_factory.mktemp("clean") / "venv", wheel)


@pytest.fixture(scope="session")
def ceph_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephCluster]:
    """One Ceph cluster for all tests that do not harm it; three OSDs, and three copies of everything."""
    require_part("ceph")
    from pvc_lab.ceph_cluster import CephCluster

    with CephCluster(tmp_path_factory.mktemp("ceph")) as cluster:
        yield cluster
    cluster.remove()


@pytest.fixture
def ceph_pool(ceph_cluster: CephCluster) -> Iterator[str]:
    """A pool for RBD that only this test uses."""
    name = f"test-{uuid4().hex[:8]}"
    ceph_cluster.create_pool(name)
    yield name
    ceph_cluster.remove_pool(name)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for part in REAL_PARTS:
        if item.get_closest_marker(part) is not None:
            require_part(part)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip for any other reason is no better in CI: a test of a real part runs, or it fails."""
    report = yield
    marked = any(item.get_closest_marker(part) is not None for part in REAL_PARTS)
    if report.skipped and marked and in_ci() and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"with CI=true no test of a real part may be skipped: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself, as `importorskip` does, hides its tests: in CI it fails."""
    report = yield
    if report.skipped and in_ci():
        report.outcome = "failed"
        report.longrepr = f"with CI=true no module may be skipped: {report.longrepr}"
    return report


# ------------------------------------------------------------------------------------------- nothing is left


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_tests() -> Iterator[None]:
    """No process, no thread that would keep this one from ending, no session with a store."""
    yield
    deadline = time.monotonic() + ENDING_S
    while (left := [*processes_left(), *threads_left()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, f"still there after the last test: {left}"


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """What other processes ran tests for this one, and died, may have left: it is ended, and the run has failed."""
    from parallel_run import is_worker

    yield
    if is_worker(session.config):
        return
    deadline = time.monotonic() + ENDING_S
    while (left := marked_processes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for number, command in left:
        print(f"still there after the last test, and killed: process {number}: {command}")
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def processes_left() -> list[str]:
    """Processes that this run has started and that still run."""
    return [f"process {number}: {command}" for number, command in marked_processes()]


def marked_processes(*, deep: bool = True) -> list[tuple[int, str]]:
    """ID and command of what this process has started, and of what runs within this one have, or not that (`deep`)."""
    mark, own = RUN_MARK.encode(), os.getpid()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == own:
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # it has ended, or is not ours
        is_marked = any(each == mark or (deep and each.startswith(mark)) for each in environment)
        if is_marked and not any(name in command for name in _OUTLIVE_TESTS):
            found.append((int(entry.name), command))
    return found


def threads_left() -> list[str]:
    """Threads that Python would wait for at its end, and those of a ZooKeeper session that nobody has closed."""
    main = threading.main_thread()
    threads = [t for t in threading.enumerate() if t is not main and t.is_alive()]
    return [f"thread {t.name}" for t in threads if not t.daemon or ZOOKEEPER_THREAD in t.name]
