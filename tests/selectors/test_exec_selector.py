# SPDX-License-Identifier: Apache-2.0
"""Selectors that are executables: what they are asked, and that nothing they do costs more than their deadline."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pvc_core import child_process
from pvc_core.errors import PluginError, PluginLeftOut
from pvc_core.placement import Decision, Placer
from pvc_core.plugin_types import SelectorEntry
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_capacity, a_node, a_request, a_snapshot, uuid_of
from pvc_core.testing.selector_suite import SelectorSuite

Write = Callable[..., Path]

NODES = (a_capacity("hv1"), a_capacity("hv2", cores=8, labels={"rack": "a"}))
RIGHT = """echo '{"hv1": 1.5, "hv2": 2}'"""
UNDER_WAY_S = 60
"""Longer than any test takes: what a child sleeps for that is never meant to end by itself."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an executable of a few lines of shell."""

    def write(*lines: str, mode: int = 0o755, name: str = "rank") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(("#!/bin/sh", *lines, "")))
        path.chmod(mode)
        return path

    return write


def registry_for(path: Path | str, *arguments: str, **options: Any) -> Registry:
    """PVC's plugins, with this executable as the selector rank."""
    command = {"command": [str(path), *arguments], **options}
    return Registry.load(sections={"exec": {"commands": {"rank": command}}}, disabled_env="")


def selector(path: Path | str, *arguments: str, **options: Any) -> SelectorEntry:
    registry = registry_for(path, *arguments, **options)
    assert registry.problems == ()
    return registry.selectors["rank"]


def scores(path: Path | str, *arguments: str, **options: Any) -> Any:
    return selector(path, *arguments, **options).selector.score(a_request("web1"), NODES)


def failure(path: Path | str, **options: Any) -> str:
    """What the plugin says of a call that has failed."""
    with pytest.raises(PluginError) as caught:
        scores(path, **options)
    assert caught.value.plugin == "exec"
    return caught.value.problem


def placed(path: Path | str, **options: Any) -> Decision:
    nodes = [a_node("hv1", memory_mib=8192), a_node("hv2")]
    return Placer(registry_for(path, **options)).place(a_request("web1", node_selector="rank"), a_snapshot(nodes))


# ------------------------------------------------------------------------------------------ what goes well


class TestExecutable(SelectorSuite):
    name = "rank"

    def registry(self) -> Registry:
        script = (
            "import json, sys; asked = json.load(sys.stdin); "
            "print(json.dumps({node['name']: node['free_mib'] for node in asked['candidates']}))"
        )
        return registry_for(sys.executable, "-I", "-c", script, deadline_s=10)


def test_an_executable_chooses_the_node(write: Write) -> None:
    decision = placed(write(RIGHT))
    assert (decision.node, decision.selector, decision.degraded) == ("hv2", "rank", "")


def test_it_reads_the_request_and_the_candidates_as_one_line_of_json(write: Write, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    entry = selector(write(f'cat > "{asked}"', RIGHT))
    entry.selector.score(a_request("web1", vcpus=3, tags=("db",), current_node="hv1"), NODES)
    text = asked.read_text()
    assert text.endswith("}\n")
    question = json.loads(text)
    assert (question["version"], question["selector"]) == (1, "rank")
    metadata = question["vm"].pop("metadata")
    assert metadata["tags"] == ["db"]
    assert question["vm"] == {
        "name": "web1", "uuid": uuid_of("web1"), "memory_mib": 512, "vcpus": 3, "current_node": "hv1",
    }  # fmt: skip
    assert question["candidates"][1] == {
        "name": "hv2", "memory_total_mib": 4096, "memory_available_mib": 4096, "free_mib": 4096, "assigned_mib": 0,
        "running_mib": 0, "cores": 8, "load_1m": 0.0, "assigned_vcpus": 0, "coming_vcpus": 0, "assigned_vms": 0,
        "labels": {"rack": "a"},
    }  # fmt: skip


def test_no_shell_looks_at_its_arguments_and_it_gets_nothing_else_of_this_process(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PVC_SECRET", "x")
    told = tmp_path / "told"
    held = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(held, True)
    lines = (f'echo "$1" > "{told}"', f'env >> "{told}"', f'ls /proc/self/fd >> "{told}"', f'pwd >> "{told}"', RIGHT)
    scores(write(*lines), "$(id); a b")
    os.close(held)
    argument, *rest = told.read_text().splitlines()
    assert argument == "$(id); a b"
    variables = {line.partition("=")[0] for line in rest if "=" in line}
    assert variables - {"_", "SHLVL", "OLDPWD"} == {"PATH", "LANG", "PWD"}
    assert {int(line) for line in rest if line.isdigit()} <= {0, 1, 2, 3}, "3 is how ls reads the folder"
    assert rest[-1] == "/"


def test_an_answer_counts_though_the_question_was_not_read(write: Write) -> None:
    many = tuple(a_capacity(f"hv{n}") for n in range(2000))
    lines = ["exec <&-", "printf '{'", *(f"printf '\"hv{n}\": {n}, '" for n in range(1999)), "echo '\"hv1999\": 1}'"]
    assert len(selector(write(*lines), deadline_s=10).selector.score(a_request(), many)) == 2000


def test_a_question_larger_than_a_pipe_is_sent_while_the_answer_is_read(write: Write) -> None:
    many = tuple(a_capacity(f"hv{n}", labels={"text": "x" * 200}) for n in range(1000))
    script = """
import json, sys
print("{", end="", flush=True)
asked = json.load(sys.stdin)
print(", ".join(f'"{node["name"]}": 1' for node in asked["candidates"]), "}")
"""
    ranked = selector(sys.executable, "-I", "-c", script, deadline_s=10).selector.score(a_request(), many)
    assert len(ranked) == 1000


# ------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["echo 'no such rack' >&2", "echo '{}'", "exit 3"], "rank ended with status 3: no such rack"),
        (["kill -9 $$"], "rank ended with signal SIGKILL"),
        (["true"], "rank answered nothing"),
        (["echo hello"], "rank answered no JSON object of numbers: JSON is malformed"),
        (["echo '[1, 2]'"], "rank answered no JSON object of numbers: Expected `object`, got `array`"),
        (["""echo '{"hv1": "1", "hv2": 2}'"""], "rank answered no JSON object of numbers: Expected `float`, got `str`"),
        (["""echo '{"hv1": NaN, "hv2": 2}'"""], "rank answered no JSON object of numbers"),
        ([RIGHT, RIGHT], "rank answered no JSON object of numbers: JSON is malformed: trailing characters"),
        (["printf '\\377'"], "rank answered no JSON object of numbers"),
        (["""echo '{"hv1": 1}'"""], "rank has no score for hv2"),
        (["""echo '{"hv1": 1, "hv9": 2}'"""], "rank scored hv9, no candidate and has no score for hv2"),
        (["yes"], "rank answered with more than 1048576 bytes"),
    ],
)
def test_whatever_it_does_wrong_is_a_failure_with_the_reason(write: Write, lines: list[str], problem: str) -> None:
    assert failure(write(*lines), deadline_s=10).startswith(problem)


@pytest.mark.parametrize(
    "lines",
    [
        [f"sleep {UNDER_WAY_S}"],
        [RIGHT, f"exec >&- 2>&-; sleep {UNDER_WAY_S}"],
        [RIGHT, f"sleep {UNDER_WAY_S} &"],
        [f"trap '' TERM INT HUP; sleep {UNDER_WAY_S} & wait"],
        ["while :; do :; done"],
        ["while :; do echo x >&2; done"],
    ],
    ids=["hangs", "closes its output and hangs", "leaves one that holds its output", "ignores", "loops", "complains"],
)
def test_one_that_has_not_ended_in_time_is_ended_with_all_it_started(
    write: Write, tmp_path: Path, lines: list[str]
) -> None:
    group = tmp_path / "group"
    path = write(f'echo $$ > "{group}"', *lines)
    assert failure(path, deadline_s=0.3).startswith("rank has not ended within 0.3 s")
    _until_ended(int(group.read_text()))


def test_what_it_leaves_in_the_background_is_ended_when_it_has_answered(write: Write, tmp_path: Path) -> None:
    group = tmp_path / "group"
    path = write(f'echo $$ > "{group}"', f"sleep {UNDER_WAY_S} > /dev/null 2>&1 &", RIGHT)
    assert scores(path, deadline_s=10) == {"hv1": 1.5, "hv2": 2.0}
    _until_ended(int(group.read_text()))


def test_a_complaint_without_end_is_cut(write: Write) -> None:
    path = write("head -c 1000000 /dev/zero | tr '\\0' x >&2", "exit 1")
    assert len(failure(path, deadline_s=10)) < child_process.MAX_COMPLAINT_BYTES + 100


def test_no_descriptor_and_no_zombie_is_left(write: Write) -> None:
    good, bad, hanging = write(RIGHT, name="good"), write("exit 1", name="bad"), write("sleep 60", name="hanging")
    entries = [selector(path, deadline_s=0.2) for path in (good, bad, hanging)]
    gc.collect()
    before = set(os.listdir("/proc/self/fd")), _children()
    for entry in entries * 2:
        try:
            entry.selector.score(a_request(), NODES)
        except PluginError:
            continue
    assert (set(os.listdir("/proc/self/fd")), _children()) == before


def test_a_file_that_cannot_be_run_is_a_failure(write: Write, tmp_path: Path) -> None:
    assert "No such file" in failure(tmp_path / "gone")
    assert "is no executable file" in failure(write(RIGHT, mode=0o644))
    assert "is no executable file" in failure(tmp_path)
    path = tmp_path / "garbage"
    path.write_bytes(b"\x00garbage")
    path.chmod(0o755)
    assert "cannot be run: " in failure(path)


def test_an_executable_that_somebody_else_could_replace_is_not_run(write: Write, tmp_path: Path) -> None:
    assert "anybody may write to" in failure(write(RIGHT, mode=0o757))
    folder = tmp_path / "open"
    folder.mkdir()
    inside = folder / "rank"
    write(RIGHT).rename(inside)
    folder.chmod(0o777)
    assert "anybody may replace it" in failure(inside)
    folder.chmod(0o1777)
    assert scores(inside) == {"hv1": 1.5, "hv2": 2.0}
    if os.geteuid() == 0:
        os.chown(inside, 65534, 65534)
        assert "belongs to another user" in failure(inside)


def test_a_failure_costs_the_ranking_and_is_said(write: Write) -> None:
    decision = placed(write("echo 'no database' >&2; exit 1"))
    assert (decision.node, decision.selector) == ("hv1", "mem")
    assert "rank ended with status 1: no database" in decision.degraded


def test_after_three_failures_it_is_left_out_for_a_while(write: Write, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    entry = selector(write(f'echo run >> "{runs}"', "exit 1"))
    for _ in range(5):
        with pytest.raises(PluginError) as caught:
            entry.selector.score(a_request(), NODES)
    assert runs.read_text().count("run") == 3
    assert isinstance(caught.value, PluginLeftOut)
    assert "after 3 failures in a row, the last: it ended with status 1" in caught.value.problem


# ------------------------------------------------------------------------------------------- configuration


def test_without_a_configuration_it_registers_nothing() -> None:
    registry = Registry.load(disabled_env="")
    [info] = [info for info in registry.plugins if info.name == "exec"]
    assert (info.state, info.error, dict(info.drivers)) == ("active", "", {"selectors": ()})


@pytest.mark.parametrize(
    ("commands", "problem"),
    [
        ({"rank": {"command": ["rank"]}}, "plugin.exec.commands.rank: 'rank' is no whole path, which begins with /"),
        ({"rank": {"command": []}}, "plugin.exec.commands.rank.command: expected array of length >= 1"),
        ({"rank": {}}, "plugin.exec.commands.rank.command: is required"),
        ({"rank": {"comand": ["/x"]}}, "plugin.exec.commands.rank.comand: is not a key of this; is command meant?"),
        ({"rank": {"command": ["/x"], "deadline_s": 11}}, "(allowed: number, above 0, at most 10)"),
        ({"mem": {"command": ["/x"]}}, "plugin.exec: mem is a selector of PVC itself; choose another name"),
        ({"a b": {"command": ["/x"]}}, "'a b', which is no valid name of a driver"),
    ],
)
def test_a_mistake_costs_the_executables_and_nothing_else(commands: dict[str, Any], problem: str) -> None:
    registry = Registry.load(sections={"exec": {"commands": commands}}, disabled_env="")
    [refused] = [info for info in registry.plugins if info.state != "active"]
    assert refused.name == "exec"
    assert problem in refused.error
    assert list(registry.selectors) == ["even", "load", "mem", "memprov", "vcpus", "vms"]


def _until_ended(group: int) -> None:
    """A killed process ends a moment after it was killed; whose parent is gone too waits for init as a zombie."""
    end_s = time.monotonic() + 10
    while living := [one for one, state, _, leader in _processes() if leader == group and state not in "ZX"]:
        assert time.monotonic() < end_s, f"{living} live on"
        time.sleep(0.01)


def _children() -> set[int]:
    """The children of this process, zombies included."""
    return {one for one, _, parent, _ in _processes() if parent == os.getpid()}


def _processes() -> Iterator[tuple[int, str, int, int]]:
    """The number, state, parent and group of every process."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            state, parent, group = entry.read_text().rpartition(")")[2].split()[:3]
            yield int(entry.parent.name), state, int(parent), int(group)
