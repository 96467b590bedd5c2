# SPDX-License-Identifier: Apache-2.0
"""What the plugin `fence-agents` makes of an executable: numbers decide, secrets stay secret, time is limited."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pvc_core.errors import PluginError
from pvc_core.fencing import FenceAgentEntry, FenceRequest, FenceStatus, FenceVerdict, device_problems
from pvc_core.fencing import fence as ask_to_fence
from pvc_core.fencing import fence_status as ask_for_status
from pvc_core.model import Settings
from pvc_core.plugin_loading import installed_plugins
from pvc_core.registry import Registry

SECRET = "Swordfish-4711"
UNDER_WAY_S = 60


class Bench:
    """Executables written for a test, in a folder of their own, and the plugin that looks there."""

    def __init__(self, folder: Path, off_s: float = 10, status_s: float = 10) -> None:
        self.folder = folder
        options = {"folders": [str(folder)], "off_deadline_s": off_s, "status_deadline_s": status_s}
        self.registry = Registry(installed_plugins([]), sections={"fence-agents": options})
        self.entry: FenceAgentEntry = self.registry.fence_agents["fence-agents"]

    def write(self, *lines: str) -> None:
        """fence_test, which keeps what it reads and has `$action` set to what it is asked."""
        path = self.folder / "fence_test"
        keep = f"cat > {self.folder}/input; cat {self.folder}/input >> {self.folder}/inputs"
        find = f"action=$(sed -n s/^action=//p {self.folder}/input)"
        path.write_text("\n".join(["#!/bin/sh", keep, find, *lines]) + "\n")
        path.chmod(0o755)

    @property
    def inputs(self) -> str:
        """All that it has read so far."""
        return (self.folder / "inputs").read_text()

    def request(self, **device: str) -> FenceRequest:
        return FenceRequest("hv1", device={"agent": "fence_test", **device})

    def fence(self, **device: str) -> FenceVerdict:
        options = self.registry.options("fence-agents", Settings())
        return ask_to_fence(self.entry, self.request(**device), self.registry.calls, options)

    def status(self, **device: str) -> FenceStatus:
        options = self.registry.options("fence-agents", Settings())
        return ask_for_status(self.entry, self.request(**device), self.registry.calls, options)

    def problems(self, **device: str) -> dict[str, str]:
        options = self.registry.options("fence-agents", Settings())
        return dict(device_problems(self.entry, self.request(**device), self.registry.calls, options))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("off", "status", "is_confirmed"),
    [
        (0, 2, True),
        (0, 0, False),  # it took the command and did nothing
        (0, 1, False),
        (0, 3, False),
        (1, 2, False),
        (2, 2, False),  # ends so whatever it is asked, as a shell does with a script it cannot read
        (7, 0, False),
    ],
)
def test_off_is_confirmed_by_two_numbers_and_nothing_else(
    bench: Bench, off: int, status: int, is_confirmed: bool
) -> None:
    bench.write("echo 'Success: Powered OFF'; echo 'Status: OFF'", f'[ "$action" = off ] && exit {off}; exit {status}')
    assert bench.fence().confirmed is is_confirmed


@pytest.mark.parametrize(("ends", "power"), [(0, "on"), (2, "off"), (1, "unknown"), (3, "unknown")])
def test_the_number_of_a_status_decides_whatever_is_written(bench: Bench, ends: int, power: str) -> None:
    bench.write("echo 'Status: OFF'; echo 'Status: ON' >&2", f"exit {ends}")
    assert bench.status().power == power


def test_a_dry_check_asks_for_nothing_but_the_status(bench: Bench) -> None:
    bench.write("exit 0")
    bench.status()
    assert bench.inputs == "action=status\n"


def test_off_comes_first_and_then_the_status_with_the_same_parameters(bench: Bench) -> None:
    bench.write('[ "$action" = off ] && exit 0; exit 2')
    bench.fence(ip="10.0.0.11", password=SECRET)
    assert bench.inputs == "".join(f"action={a}\nip=10.0.0.11\npassword={SECRET}\n" for a in ("off", "status"))


@pytest.mark.parametrize("value", [" blank", "blank ", '"quoted"', '"'])
def test_a_value_arrives_as_it_is_where_a_line_is_stripped_and_unquoted(bench: Bench, value: str) -> None:
    bench.write("exit 0")
    bench.status(password=value)
    line = next(line.strip() for line in bench.inputs.splitlines() if line.startswith("password="))
    read = line.removeprefix("password=")
    assert (read[1:-1] if len(read) > 1 and read[0] == read[-1] == '"' else read) == value


def test_a_secret_is_on_no_command_line_and_in_no_environment(bench: Bench) -> None:
    bench.write(f"tr '\\0' '\\n' < /proc/$$/cmdline > {bench.folder}/seen", f"env >> {bench.folder}/seen", "exit 0")
    bench.status(password=SECRET)
    assert SECRET in bench.inputs
    assert SECRET not in (bench.folder / "seen").read_text()


@pytest.mark.parametrize("name", ["password", "passwd", "snmp-priv-passwd", "community", "Passwd", "my_token"])
def test_a_secret_that_an_executable_repeats_is_masked(bench: Bench, name: str) -> None:
    bench.write(f"cat {bench.folder}/input; cat {bench.folder}/input >&2", "exit 1")
    said = bench.fence(**{name: SECRET}).detail + bench.status(**{name: SECRET}).detail
    assert "***" in said
    assert SECRET not in said


def test_what_an_executable_does_not_know_is_not_repeated_either(bench: Bench) -> None:
    bench.write(f"echo \"WARNING: Parse error: Ignoring unknown option 'pw={SECRET}'\" >&2", "exit 1")
    assert bench.status(pw=SECRET).detail.endswith("Ignoring unknown option 'pw=***")


@pytest.mark.parametrize("hanging", ["off", "status"])
def test_an_executable_that_hangs_confirms_nothing_and_is_ended_with_its_children(
    tmp_path: Path, wait_gone: Callable[[int], None], hanging: str
) -> None:
    bench = Bench(tmp_path, off_s=1, status_s=1)
    bench.write(f'[ "$action" = {hanging} ] || exit 0', f"sleep {UNDER_WAY_S} & echo $! > {tmp_path}/child; wait")
    started_s = time.monotonic()
    verdict = bench.fence()
    assert time.monotonic() - started_s < UNDER_WAY_S / 2
    assert not verdict.confirmed
    assert "has not ended within" in verdict.detail
    wait_gone(int((tmp_path / "child").read_text()))


@pytest.fixture
def wait_gone() -> Callable[[int], None]:
    """Until a process is gone or nobody's any more."""

    def wait(pid: int) -> None:
        end_s = time.monotonic() + 10
        while time.monotonic() < end_s:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return
            except (FileNotFoundError, ProcessLookupError):
                return
            os.sched_yield()
        pytest.fail(f"process {pid} is still there")

    return wait


@pytest.mark.parametrize("agent", ["", "/bin/sh", "../fence_test", "sh", "fence_test -o off", "fence_"])
def test_an_executable_is_named_and_never_a_path(bench: Bench, agent: str) -> None:
    bench.write("exit 2")
    assert not bench.fence(agent=agent).confirmed
    assert "agent" in bench.status(agent=agent).detail
    assert list(bench.problems(agent=agent)) == ["agent"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("action", "on"),
        ("method", "cycle"),
        ("ipmitool_path", "/tmp/mine"),
        ("ipmitool-path", "/tmp/mine"),
        ("passwd_script", "/tmp/mine"),
        ("ssh_options", "-oProxyCommand=/tmp/mine"),
        ("debug_file", "/etc/passwd"),
        ("missing_as_off", "1"),
        ("name\naction", "on"),
    ],
)
def test_a_device_never_chooses_what_a_node_runs_writes_or_believes(bench: Bench, name: str, value: str) -> None:
    bench.write('[ "$action" = off ] && exit 0; exit 2')
    assert not bench.fence(**{name: value}).confirmed
    assert not (bench.folder / "inputs").exists(), "it was run"
    assert name in bench.problems(**{name: value})


def test_a_value_of_two_lines_is_not_given(bench: Bench) -> None:
    bench.write("exit 2")
    assert not bench.fence(ip="10.0.0.11\naction=on").confirmed
    assert not (bench.folder / "inputs").exists()


def test_what_is_not_installed_confirms_nothing_and_says_where_it_was_looked_for(bench: Bench) -> None:
    assert not bench.fence().confirmed
    assert bench.status().detail == f"fence_test is not installed here; looked for in {bench.folder}"
    assert bench.problems() == {}, "the host of the API need not have it"


def test_an_executable_that_anybody_could_replace_is_not_run(bench: Bench) -> None:
    bench.write("exit 2")
    (bench.folder / "fence_test").chmod(0o777)
    assert "anybody may write" in bench.status().detail


@pytest.mark.parametrize("description", ["", "no XML", "<a/>", '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>'])
def test_what_does_not_describe_itself_is_no_fence_agent(bench: Bench, description: str) -> None:
    bench.write(f"echo '{description}'", "exit 0")
    assert list(bench.problems()) == ["agent"]


@pytest.mark.parametrize("options", [{"folders": []}, {"folders": ["sbin"]}, {"off_deadline_s": 0}])
def test_options_that_cannot_be_meant_cost_the_plugin_and_say_why(options: dict[str, object]) -> None:
    registry = Registry(installed_plugins([]), sections={"fence-agents": options})
    assert "fence-agents" not in registry.fence_agents
    assert any(next(iter(options)) in str(problem) or "whole path" in str(problem) for problem in registry.problems)


def test_the_deadline_leaves_time_for_both_actions(tmp_path: Path) -> None:
    assert Bench(tmp_path, off_s=100, status_s=20).entry.deadline_s > 120


def test_a_check_that_breaks_is_a_plugin_error(bench: Bench) -> None:
    class Broken:
        def power_off(self, request: FenceRequest) -> FenceVerdict: ...
        def status(self, request: FenceRequest) -> FenceStatus: ...
        def problems(self, request: FenceRequest) -> dict[str, str]:
            raise RuntimeError("bad day")

    entry = FenceAgentEntry("broken", "breaks", Broken())
    with pytest.raises(PluginError, match="bad day"):
        device_problems(entry, bench.request(), bench.registry.calls, bench.registry.options("broken", Settings()))
