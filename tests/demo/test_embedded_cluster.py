# SPDX-License-Identifier: Apache-2.0
"""The cluster of simulated hosts ends whole, whatever one of its daemons does."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pvc_lab import embedded_cluster
from pvc_lab.embedded_cluster import EmbeddedCluster


def test_a_daemon_that_does_not_end_keeps_no_other_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_cluster, "STOP_DEADLINE_S", 0.5)
    cluster = EmbeddedCluster(tmp_path)
    for node in cluster.nodes:
        cluster.start_daemon(node)
        cluster.send(node, signal.SIGSTOP)
    with pytest.raises(RuntimeError, match="did not end on SIGTERM"):
        cluster.down()
    assert cluster.processes_left() == ()
