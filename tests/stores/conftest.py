# SPDX-License-Identifier: Apache-2.0
"""A real ZooKeeper server for the tests that need one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc_lab.zookeeper import ZooKeeperServer

pytest.register_assert_rewrite("pvc_core.testing")

ZOOKEEPER_JAR = Path("/usr/share/java/zookeeper.jar")


@pytest.fixture(scope="session")
def zookeeper_is_installed() -> None:
    """Skip without ZooKeeper; under CI its absence is a failure."""
    if shutil.which("java") is None or not ZOOKEEPER_JAR.exists():
        problem = "needs Java and ZooKeeper: apt-get install default-jre-headless libzookeeper-java"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(problem)
        pytest.skip(problem)


@pytest.fixture(scope="session")
def zookeeper(zookeeper_is_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    """One server for all tests that do not harm it."""
    with ZooKeeperServer(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server
