# SPDX-License-Identifier: Apache-2.0
"""`pvc storage directory ...` as a person runs it: as a process, with qcow2 images in a folder."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from acme_machine import AcmeMachine

Pvc = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def pvc(tmp_path: Path, require: Callable[[str], None]) -> Pvc:
    """On a machine with a pool that is shared and one that is not."""
    require("qemu-img")
    machine = AcmeMachine.make(tmp_path)
    (tmp_path / "volumes").mkdir()
    with (tmp_path / "pvc.toml").open("a") as file:
        file.write(f'[plugin.directory.pools.vms]\nfolder = "{tmp_path}/volumes"\nshared = true\n')
        file.write(f'[plugin.directory.pools.own]\nfolder = "{tmp_path}"\n')

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return machine.pvc("storage", "directory", *words, with_acme=False, **variables)

    return run


def said(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_volumes_are_made_changed_and_removed(pvc: Pvc) -> None:
    assert said(pvc("volume", "list", "vms")) == "pool vms has no volumes"
    assert said(pvc("volume", "add", "vms", "web1", "10MiB")) == "volume web1 of 10 MiB is made in pool vms"
    assert said(pvc("volume", "resize", "vms", "web1", "1g")) == "volume web1 of pool vms has 1 GiB now"
    said(pvc("volume", "rename", "vms", "web1", "web2"))
    said(pvc("volume", "clone", "vms", "web2", "copy"))
    rows = said(pvc("volume", "list", "vms")).splitlines()
    assert rows[0].split() == ["NAME", "SIZE", "USED", "VM"]
    assert [row.split()[:3] for row in rows[1:]] == [["copy", "1", "GiB"], ["web2", "1", "GiB"]]
    asks = pvc("volume", "remove", "vms", "copy")
    assert asks.returncode == 2
    assert "say --yes" in asks.stderr
    said(pvc("volume", "remove", "vms", "copy", "--yes"))
    assert said(pvc("volume", "list", "vms", "-o", "names")) == "web2"
    listed = json.loads(said(pvc("volume", "list", "vms", "-o", "json")))
    assert [volume["size_bytes"] for volume in listed["volumes"]] == [2**30]


def test_snapshots_are_made_kept_gone_back_to_and_removed(pvc: Pvc) -> None:
    said(pvc("volume", "add", "vms", "web1", "1MiB"))
    said(pvc("volume", "snapshot", "add", "vms", "web1", "monday"))
    said(pvc("volume", "snapshot", "rename", "vms", "web1", "monday", "day1"))
    said(pvc("volume", "snapshot", "protect", "vms", "web1", "day1"))
    rows = said(pvc("volume", "snapshot", "list", "vms", "web1")).splitlines()
    assert rows[1].split() == ["day1", "1", "MiB", "yes"]
    refused = pvc("volume", "snapshot", "remove", "vms", "web1", "day1", "-y")
    assert (refused.returncode, "is protected" in refused.stderr) == (5, True)
    said(pvc("volume", "snapshot", "protect", "vms", "web1", "day1", "--off"))
    said(pvc("volume", "snapshot", "rollback", "vms", "web1", "day1", "-y"))
    said(pvc("volume", "snapshot", "remove", "vms", "web1", "day1", "-y"))
    assert said(pvc("volume", "snapshot", "list", "vms", "web1")) == "volume web1 has no snapshots"


def test_what_a_command_that_died_has_left_is_shown_and_goes_when_it_is_repaired(pvc: Pvc, tmp_path: Path) -> None:
    assert said(pvc("repair")) == "nothing is to be repaired"
    left = tmp_path / "volumes/.pvc-new-1234.qcow2"
    left.write_bytes(b"half")
    asks = pvc("repair")
    assert (asks.returncode, "say --yes" in asks.stderr, left.exists()) == (2, True, True)
    assert ".pvc-new-1234.qcow2, which takes 4 KiB, was being made by a call that was ended" in asks.stdout
    assert "the file is removed" in asks.stdout
    assert said(pvc("repair", "--yes")) == "1 repaired, 0 left"
    assert not left.exists()
    (tmp_path / "volumes/web1.qcow2").write_bytes(b"no image")
    damaged = pvc("repair", "--yes", "-o", "json")
    assert damaged.returncode == 5
    assert [each["what"] for each in json.loads(damaged.stdout)["left"]] == ["volume web1 cannot be read"]


def test_pools_say_what_is_each_nodes_own_and_out_of_reach(pvc: Pvc) -> None:
    rows = said(pvc("pool", "list")).splitlines()
    assert [row.split()[:2] for row in rows[1:]] == [["own", "each"], ["vms", "yes"]]
    refused = pvc("volume", "list", "own")
    assert (refused.returncode, "made and removed there with --node" in refused.stderr) == (5, True)


def test_a_size_needs_a_unit(pvc: Pvc) -> None:
    refused = pvc("volume", "add", "vms", "web1", "10")
    assert refused.returncode == 2
    assert "size '10': needs a unit (allowed: KiB, MiB, GiB" in refused.stderr


def test_of_a_blocked_plugin_neither_commands_nor_resources_are_there(pvc: Pvc) -> None:
    assert pvc("pool", "list", PVC_DISABLED_PLUGINS="directory").returncode == 2
