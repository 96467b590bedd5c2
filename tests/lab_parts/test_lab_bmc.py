# SPDX-License-Identifier: Apache-2.0
"""A BMC of the lab is one to ipmitool: it switches its host, keeps its state, and can hang, die and disobey."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pvc_lab.bmc import Bmc, BmcError

pytestmark = pytest.mark.lab
PASSWORD = "Swordfish-4711"


def ipmitool(bmc: Bmc, *words: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    """Two tries of a second each, so that silence is soon known."""
    argv = ["ipmitool", "-I", "lanplus", "-C", "3", "-N", "1", "-R", "1", "-H", bmc.address, "-p", str(bmc.port)]
    return subprocess.run(
        [*argv, "-U", "admin", "-E", *words],
        env={"IPMI_PASSWORD": password, "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def switched() -> list[str]:
    """What the host was told, in order."""
    return []


@pytest.fixture
def bmc(tmp_path: Path, switched: list[str]) -> Iterator[Bmc]:
    with Bmc(tmp_path / "bmc", port=None, user="admin", password=PASSWORD, on_power=switched.append) as bmc:
        yield bmc


def test_its_host_is_switched_before_it_says_so(bmc: Bmc, switched: list[str]) -> None:
    assert ipmitool(bmc, "chassis", "power", "status").stdout == "Chassis Power is on\n"
    assert ipmitool(bmc, "chassis", "power", "off").returncode == 0
    assert (switched, bmc.power) == (["off"], "off")
    assert ipmitool(bmc, "chassis", "power", "status").stdout == "Chassis Power is off\n"
    ipmitool(bmc, "chassis", "power", "on")
    assert (switched, bmc.power) == (["off", "on"], "on")


def test_a_host_that_is_off_already_is_not_switched_again(bmc: Bmc, switched: list[str]) -> None:
    bmc.power = "off"
    assert ipmitool(bmc, "chassis", "power", "status").stdout == "Chassis Power is off\n"
    ipmitool(bmc, "chassis", "power", "off")
    assert switched == []


def test_a_reset_switches_off_and_on(bmc: Bmc, switched: list[str]) -> None:
    ipmitool(bmc, "chassis", "power", "cycle")
    assert switched == ["off", "on"]


def test_a_command_switches_where_the_owner_does_not_live_on(tmp_path: Path) -> None:
    hook = [sys.executable, "-c", f"import sys; open({str(tmp_path / 'told')!r}, 'a').write(sys.argv[1])"]
    with Bmc(tmp_path / "bmc", port=None, user="admin", password=PASSWORD, on_power=hook) as bmc:
        ipmitool(bmc, "chassis", "power", "off")
        assert ((tmp_path / "told").read_text(), bmc.power) == ("off", "off")


def test_a_host_whose_hook_fails_stays_on(tmp_path: Path) -> None:
    with Bmc(tmp_path / "bmc", port=None, user="admin", password=PASSWORD, on_power=["false"]) as bmc:
        assert ipmitool(bmc, "chassis", "power", "off").returncode != 0
        assert bmc.power == "on"


@pytest.mark.parametrize("fail", [Bmc.stop, Bmc.silence], ids=["dead", "silent"])
def test_one_that_is_dead_or_hangs_tells_nothing(bmc: Bmc, fail: Callable[[Bmc], None]) -> None:
    fail(bmc)
    assert ipmitool(bmc, "chassis", "power", "status").returncode != 0


def test_one_that_hung_or_was_dead_goes_on_as_before(bmc: Bmc) -> None:
    bmc.silence()
    bmc.power = "off"
    bmc.speak()
    assert ipmitool(bmc, "chassis", "power", "status").stdout == "Chassis Power is off\n"
    bmc.stop()
    bmc.start()
    assert ipmitool(bmc, "chassis", "power", "status").stdout == "Chassis Power is off\n"


def test_one_that_is_deaf_says_yes_and_does_nothing(bmc: Bmc, switched: list[str]) -> None:
    bmc.ignore_commands()
    assert ipmitool(bmc, "chassis", "power", "off").returncode == 0
    assert (switched, bmc.power) == ([], "on")
    bmc.ignore_commands(False)
    ipmitool(bmc, "chassis", "power", "off")
    assert bmc.power == "off"


def test_a_wrong_password_is_refused(bmc: Bmc, switched: list[str]) -> None:
    assert ipmitool(bmc, "chassis", "power", "off", password="wrong").returncode != 0
    assert switched == []


def test_one_that_cannot_listen_says_why(bmc: Bmc, tmp_path: Path) -> None:
    second = Bmc(tmp_path / "second", port=bmc.port, user="admin", password=PASSWORD)
    with pytest.raises(BmcError, match="Address already in use"):
        second.start()
