# SPDX-License-Identifier: Apache-2.0
"""Whenever a call of the backend `ceph` is killed, the pool holds what it held before or what it should after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storage.ceph_killed_calls import CALLS

if TYPE_CHECKING:
    from pvc_lab.ceph_cluster import CephCluster

pytestmark = pytest.mark.ceph

TESTS = Path(__file__).parents[1]
HALF_WAY = "refused: is on its way back to snapshot first"


@pytest.fixture(scope="module")
def cluster(require: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephCluster]:
    """A cluster of its own, which notices within a second or two that a client has died, and not in half a minute."""
    require("ceph")
    from pvc_lab.ceph_cluster import CephCluster

    with CephCluster(tmp_path_factory.mktemp("ceph-killed"), osds=1) as made:
        made.admin.command("config set", who="osd", name="osd_client_watch_timeout", value="1")
        yield made
    made.remove()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_killed_at_any_step_leaves_the_old_state_or_the_new_one_and_repair_leaves_nothing(
    call: str, cluster: CephCluster
) -> None:
    pool = f"killed-{call}"
    cluster.create_pool(pool)
    ran = subprocess.run(
        [sys.executable, "-m", "storage.ceph_killed_calls", str(cluster.conf_path), pool, call],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert ran.returncode == 0, ran.stderr
    *times, end = [json.loads(line) for line in ran.stdout.splitlines()]
    old, new = times[-1]["before"], times[0]["after"]
    assert old != new
    assert sum(time["killed"].startswith("before") for time in times) > 10, "it was killed at few steps"
    for time in times:
        after = time["after"]
        if call == "roll-back" and isinstance(after["disk"], list) and after["disk"][2].startswith(HALF_WAY):
            after = new  # nobody can read, copy or start it before it is, which mending sees to
        assert after in (old, new), f"killed {time['killed']}, it leaves neither"
        assert time["mended"] in (old, new), f"killed {time['killed']}, mending leaves neither"
        assert time["mended"] == after or (after, time["mended"]) == (old, old), f"killed {time['killed']}"
    assert end["left"] == []
    cluster.remove_pool(pool)
