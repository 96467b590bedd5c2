# SPDX-License-Identifier: Apache-2.0
"""`pvc storage ceph ...` as a person runs it: as a process, against a real cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from acme_machine import AcmeMachine

if TYPE_CHECKING:
    from pvc_lab.ceph_cluster import CephCluster

pytestmark = pytest.mark.ceph

Pvc = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def pvc(tmp_path: Path, ceph_cluster: CephCluster) -> Pvc:
    """On a machine that uses this cluster."""
    machine = AcmeMachine.make(tmp_path)
    with (tmp_path / "pvc.toml").open("a") as file:
        file.write(f'[plugin.ceph]\nconf = "{ceph_cluster.conf_path}"\n')

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return machine.pvc("storage", *words, with_acme=False, **variables)

    return run


def said(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_pools_are_listed_in_every_form(pvc: Pvc, ceph_pool: str) -> None:
    header, *rows = said(pvc("ceph", "pool", "list")).splitlines()
    assert header.split() == ["POOL", "SIZE", "MIN", "PGS", "STORED", "USED", "FREE", "QUOTA", "APPLICATION"]
    cells = next(row.split() for row in rows if row.startswith(ceph_pool))
    assert (cells[1:4], cells[-1]) == (["3", "1", "8"], "rbd")
    assert ceph_pool in said(pvc("ceph", "pool", "list", "-o", "names")).splitlines()
    for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        pools = {pool["name"]: pool for pool in read(said(pvc("ceph", "pool", "list", "-o", form)))["pools"]}
        assert (pools[ceph_pool]["size"], pools[ceph_pool]["volumes"]) == (3, True)


def test_the_status_and_the_use_of_the_cluster_are_shown_in_every_form(pvc: Pvc, ceph_pool: str) -> None:
    shown = said(pvc("ceph", "status"))
    assert "HEALTH_" in shown
    assert "quorum of a" in shown
    assert "3: 3 up, 3 in" in shown
    assert json.loads(said(pvc("ceph", "status", "-o", "json")))["osds_up"] == 3
    assert yaml.safe_load(said(pvc("ceph", "status", "-o", "yaml")))["monitors"] == [{"name": "a", "in_quorum": True}]
    lines = said(pvc("ceph", "util")).splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["CLASS", "all"]
    assert any(line.startswith(ceph_pool) for line in lines)
    assert ceph_pool in said(pvc("ceph", "util", "-o", "names")).splitlines()
    assert json.loads(said(pvc("ceph", "util", "-o", "json")))["total_bytes"] > 0


def test_volumes_have_the_commands_of_every_backend(pvc: Pvc, ceph_pool: str) -> None:
    made = said(pvc("ceph", "volume", "add", ceph_pool, "web1", "8MiB"))
    assert made == f"volume web1 of 8 MiB is made in pool {ceph_pool}"
    assert said(pvc("ceph", "volume", "list", ceph_pool, "-o", "names")) == "web1"


def test_a_pool_is_removed_only_when_that_is_confirmed(pvc: Pvc, ceph_pool: str) -> None:
    asks = pvc("ceph", "pool", "remove", ceph_pool)
    assert asks.returncode == 2
    assert "say --yes" in asks.stderr
    assert said(pvc("ceph", "pool", "set", ceph_pool, "quota", "1GiB")) == f"quota of pool {ceph_pool} is 1GiB now"
    removed = said(pvc("ceph", "pool", "remove", ceph_pool, "--yes"))
    assert removed == f"pool {ceph_pool} is removed, with all that was in it"


def test_osds_are_listed_in_every_form_with_the_flags_of_all(pvc: Pvc) -> None:
    assert said(pvc("ceph", "osd", "set", "noscrub")) == "noscrub is set"
    lines = said(pvc("ceph", "osd", "list")).splitlines()
    assert lines[0].split() == ["OSD", "HOST", "CLASS", "STATE", "PGS", "SIZE", "USED", "FREE", "USED%"]
    assert [line.split()[0] for line in lines[1:4]] == ["osd.0", "osd.1", "osd.2"]
    assert lines[4] == "flags: noscrub"
    said(pvc("ceph", "osd", "unset", "noscrub"))
    assert said(pvc("ceph", "osd", "list", "-o", "names")).split() == ["osd.0", "osd.1", "osd.2"]
    for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        document = read(said(pvc("ceph", "osd", "list", "-o", form)))
        assert ([osd["up"] for osd in document["osds"]], document["flags"]) == ([True] * 3, [])


def test_of_a_blocked_plugin_neither_commands_nor_help_nor_completion_are_there(pvc: Pvc) -> None:
    assert "ceph" in pvc("--help").stdout
    assert "ceph" not in pvc("--help", PVC_DISABLED_PLUGINS="ceph").stdout
    assert pvc("ceph", "pool", "list", PVC_DISABLED_PLUGINS="ceph").returncode == 2
