# SPDX-License-Identifier: Apache-2.0
"""The demo's cluster stays up, is used by hand, starts anew with its VMs and its address, and goes without a trace."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc_lab.kept_cluster import KeptCluster
from pvc_lab.processes import ProcessIdentity


def demo(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    """`pvc-demo` as a process of its own, which ends while the cluster stays."""
    return subprocess.run(
        [sys.executable, "-m", "pvc_lab.demo", *arguments, "--root", str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def typed(line: str, root: Path) -> str:
    """What a shell prints that has read access.sh."""
    script = f". {root}/access.sh; {line}"
    result = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def pids(root: Path) -> list[int]:
    return [pid for pid, _ in json.loads((root / "running.json").read_text())["processes"].values()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "demo"
    yield root
    demo("down", root=root)


def test_it_stays_up_starts_anew_and_goes_without_a_trace(root: Path) -> None:
    result = demo("up", root=root)
    assert result.returncode == 0, result.stderr
    assert f". {root}/access.sh" in result.stdout
    xml = "<domain><name>web1</name><memory unit='MiB'>128</memory><vcpu>1</vcpu></domain>"
    typed(f'cd {root}; echo "{xml}" > web1.xml; pvc vm define web1.xml --start --wait', root)
    nodes = json.loads(typed("pvc node list -o json", root))["nodes"]
    assert [node["name"] for node in nodes] == ["hv1", "hv2", "hv3"]

    first = pids(root)
    assert "is up already" in demo("up", root=root).stdout
    assert pids(root) == first

    assert demo("restart", root=root).returncode == 0
    assert not any(is_alive(pid) for pid in first)
    assert json.loads(typed("pvc vm info web1 -o json", root))["state"] == "running"

    ProcessIdentity.of(pids(root)[0]).end(signal.SIGKILL)
    assert not KeptCluster(root).is_up
    assert demo("up", root=root).returncode == 0
    assert KeptCluster(root).is_up
    assert "web1" in typed("pvc vm list", root)

    last = pids(root)
    assert demo("down", root=root).stdout == "the demo cluster is down\n"
    assert not root.exists()
    assert not any(is_alive(pid) for pid in last)
    assert demo("down", root=root).stdout == "no demo cluster is up\n"


def test_what_an_interrupted_start_has_left_behind_is_ended(root: Path) -> None:
    assert demo("up", root=root).returncode == 0
    left = pids(root)
    (root / "running.json").unlink()
    assert demo("up", root=root).returncode == 0
    assert not any(is_alive(pid) for pid in left)
    assert KeptCluster(root).is_up


def test_there_is_nothing_to_restart_where_nothing_is_up(root: Path) -> None:
    result = demo("restart", root=root)
    assert result.returncode == 1
    assert "no demo cluster is up" in result.stderr


@pytest.mark.parametrize("command", ["up", "restart"])
def test_a_folder_with_something_else_in_it_is_left_alone(command: str, root: Path) -> None:
    root.mkdir()
    (root / "thesis.tex").write_text("years of work")
    result = demo(command, root=root)
    assert result.returncode == 1
    assert "holds something else (thesis.tex)" in result.stderr
    assert demo("down", root=root).stdout == "no demo cluster is up\n"
    assert [path.name for path in root.iterdir()] == ["thesis.tex"]


def test_a_folder_that_others_can_write_to_is_refused(root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)
    result = demo("up", root=root)
    assert result.returncode == 1
    assert "can be written by others" in result.stderr
