# SPDX-License-Identifier: Apache-2.0
"""What README and operating page tell one to type is typed, in order, on an embedded cluster of real processes."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import ROOT, Shown, commands

from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.tour_cluster import program

PAGES_TO_TYPE = ("README.md", "docs/operating.md", "docs/settings.md", "docs/rules.md")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    labels = {"hv1": {"rack": "a"}, "hv2": {"rack": "a"}, "hv3": {"rack": "b"}}
    with EmbeddedCluster(tmp_path_factory.mktemp("cluster"), labels=labels) as cluster:
        yield cluster


class Reader:
    """Somebody who types what a page shows, in a home of their own, with the files that the pages define VMs from."""

    def __init__(self, cluster: EmbeddedCluster, home: Path) -> None:
        self.cluster = cluster
        self.home = home
        for name in ("web1", "db1", "db2", "app1"):
            (home / f"{name}.xml").write_text(cluster.definition(name))
        (home / "pvc-ca.pem").write_text("")

    def types(self, shown: Shown) -> subprocess.CompletedProcess[str]:
        """Run the line in a shell: root is on a node, where `pvc` needs no API; others use the cluster's API."""
        local = {"PVC_CONFIG": self.cluster.environment["PVC_CONFIG"]}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PVC_")},
            **(local if shown.as_root else self.cluster.environment),
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "PATH": f"{Path(program('pvc')).parent}:{os.environ['PATH']}",
        }
        return subprocess.run(
            ["/bin/sh", "-c", shown.text],
            cwd=self.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.mark.parametrize("page", PAGES_TO_TYPE)
def test_the_commands_of_a_page_work_in_their_order(cluster: EmbeddedCluster, page: str, tmp_path: Path) -> None:
    reader = Reader(cluster, tmp_path)
    typed = [shown for shown in commands(ROOT / page) if shown.program == "pvc"]
    assert typed, f"{page} shows no command of pvc any more"
    for shown in typed:
        result = reader.types(shown)
        assert result.returncode == 0, f"{shlex.quote(shown.text)}: {result.stdout}{result.stderr}"
