# SPDX-License-Identifier: Apache-2.0
"""The guards of the test run itself: what is skipped in CI fails, and what is left behind is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from house import ROOT, run

INI = "[pytest]\nmarkers =\n    zookeeper: needs ZooKeeper\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder for a suite of its own, under the guards of this one."""
    guards = (ROOT / "tests/conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(guards.replace("ENDING_S = 10.0", "ENDING_S = 0.2"))
    shutil.copy(ROOT / "tests/parallel_run.py", tmp_path)
    (tmp_path / "pytest.ini").write_text(INI)
    return tmp_path


def outcome(suite: Path, test: str, **environment: str) -> str:
    """What pytest says of a module with this text."""
    (suite / "test_it.py").write_text("import os, subprocess, sys, threading, time\nimport pytest\n" + test)
    environment.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    return run("python", "-m", "pytest", "-q", "-rs", cwd=suite, **environment).stdout


SKIPS_ITSELF = "@pytest.mark.zookeeper\ndef test_it():\n    pytest.skip('no server')\n"


def test_a_test_of_a_real_part_may_be_skipped_elsewhere(suite: Path) -> None:
    assert "1 skipped" in outcome(suite, SKIPS_ITSELF)


def test_a_test_of_a_real_part_that_skips_itself_in_ci_fails(suite: Path) -> None:
    assert "1 failed" in outcome(suite, SKIPS_ITSELF, CI="true")


def test_a_real_part_that_is_missing_in_ci_fails_its_tests(suite: Path) -> None:
    test = "@pytest.mark.zookeeper\ndef test_it():\n    pass\n"
    without_java = "/nowhere"
    assert "1 skipped" in outcome(suite, test, PATH=without_java)
    assert "zookeeper is required: Java and ZooKeeper are not installed" in outcome(
        suite, test, CI="true", PATH=without_java
    )


def test_a_fixture_can_ask_for_a_real_part(suite: Path) -> None:
    test = "def test_it(require):\n    require('zookeeper')\n"
    assert "1 skipped" in outcome(suite, test, PATH="/nowhere")


def test_a_module_that_skips_itself_in_ci_fails(suite: Path) -> None:
    test = "pytest.importorskip('no_such_module')\n"
    assert "1 skipped" in outcome(suite, test)
    assert "no module may be skipped" in outcome(suite, test, CI="true")


def test_any_other_test_may_be_skipped_in_ci(suite: Path) -> None:
    assert "1 skipped" in outcome(suite, "def test_it():\n    pytest.skip('not here')\n", CI="true")


def test_the_users_own_cluster_is_out_of_reach(suite: Path) -> None:
    test = "def test_it():\n    assert 'PVC_API_URL' not in os.environ and os.environ['PVC_LAB_CACHE'] == '/y'\n"
    assert "1 passed" in outcome(suite, test, PVC_API_URL="http://x", PVC_LAB_CACHE="/y")


@pytest.mark.parametrize(
    ("test", "left"),
    [
        ("def test_it():\n    subprocess.Popen(['sleep', '8'], start_new_session=True)\n", "sleep 8"),
        ("def test_it():\n    threading.Thread(target=time.sleep, args=(8,), name='idler').start()\n", "thread idler"),
        (
            "def test_it():\n    threading.Thread(None, time.sleep, '(zk_loop)', (18,), daemon=True).start()\n",
            "thread (zk_loop)",
        ),
    ],
    ids=["process", "thread", "session of ZooKeeper"],
)
def test_what_a_test_leaves_behind_is_found(suite: Path, test: str, left: str) -> None:
    said = outcome(suite, test)
    assert "still there after the last test" in said
    assert left in said
