# SPDX-License-Identifier: Apache-2.0
"""Selectors that are executables of your own: JSON in, JSON out.

Each entry under `[plugin.exec.commands]` of the configuration is one selector. The schema of the question and the
answer is in docs/plugins/exec-selector.md; whatever an executable does wrong is a failure of this plugin, so the
cluster's default ranks instead and the decision is degraded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from pvc_core import (
    ConfigSection,
    NodeCapacity,
    PlacementRequest,
    PluginError,
    PluginOptions,
    SelectorEntry,
    VmMetadata,
    hookimpl,
)
from pvc_core.errors import PluginLeftOut
from pvc_core.plugin_circuits import CLOSED, DEFAULT_RULES
from pvc_selectors import load, mem, memprov, vcpus, vms

PLUGIN = "exec"
QUESTION_VERSION = 1
"""Raised when a field changes its meaning or goes; fields may be added at any time."""
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
BUILT_IN = frozenset(module.ENTRY.name for module in (mem, memprov, load, vcpus, vms))


# ------------------------------------------------------------------------------------------- configuration


class Command(msgspec.Struct, frozen=True):
    """[plugin.exec.commands.<name>]: one executable."""

    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """The executable by its whole path, and its arguments; no shell looks at them."""
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1.0
    """How long one answer may take, in seconds; every placement waits for it."""
    summary: str = "the highest score of an executable"
    """What the best node has, for lists of selectors."""

    def __post_init__(self) -> None:
        if not self.command[0].startswith("/"):
            raise ValueError(f"{self.command[0]!r} is no whole path, which begins with /")


class Executables(msgspec.Struct, frozen=True):
    """[plugin.exec]."""

    commands: dict[str, Command] = {}
    """Executables by the names under which VMs choose them as selectors."""

    def __post_init__(self) -> None:
        for name in sorted(BUILT_IN & set(self.commands)):
            raise ValueError(f"{name} is a selector of PVC itself; choose another name")


# ---------------------------------------------------------------------------------------------- in and out


class AskedVm(msgspec.Struct, frozen=True):
    """The VM that wants a place. current_node: "" for a new one."""

    name: str
    uuid: str
    memory_mib: int
    vcpus: int
    current_node: str
    metadata: VmMetadata


class AskedNode(msgspec.Struct, frozen=True):
    """One candidate, as `NodeCapacity` describes it."""

    name: str
    memory_total_mib: int
    memory_available_mib: int
    free_mib: int
    assigned_mib: int
    running_mib: int
    cores: int
    load_1m: float
    assigned_vcpus: int
    coming_vcpus: int
    assigned_vms: int
    labels: dict[str, str]


class Question(msgspec.Struct, frozen=True):
    """What an executable reads from standard input."""

    version: int
    selector: str
    vm: AskedVm
    candidates: tuple[AskedNode, ...]


def question_of(selector: str, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Question:
    """The question that a placement puts to an executable."""
    fields = AskedNode.__struct_fields__
    return Question(
        version=QUESTION_VERSION,
        selector=selector,
        vm=AskedVm(request.vm, request.uuid, request.memory_mib, request.vcpus, request.current_node, request.metadata),
        candidates=tuple(
            AskedNode(**{**{field: getattr(node, field) for field in fields}, "labels": dict(node.labels)})
            for node in candidates
        ),
    )


_WRITER = msgspec.json.Encoder()
_READER = msgspec.json.Decoder(dict[str, float])


class Executable:
    """A selector that asks an executable. Thread-safe.

    After three failures in a row it is left out for a while, as a third party's plugin is: a drain of fifty VMs would
    otherwise wait fifty times for the deadline of an executable that hangs.
    """

    def __init__(self, name: str, command: Command) -> None:
        self._name = name
        self._command = command
        self._lock = threading.Lock()
        self._circuit = CLOSED
        self._last_error = ""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        from pvc_core.child_process import CommandFailed, answer_of

        self._enter()
        asked = _WRITER.encode(question_of(self._name, request, candidates)) + b"\n"
        try:
            answer = answer_of(self._command.command, asked, self._command.deadline_s, ENVIRONMENT)
            scores = _scores(answer, candidates)
        except CommandFailed as failure:
            self._failed(str(failure))
            raise PluginError(PLUGIN, f"{self._name} {failure}") from failure
        except BaseException:
            with self._lock:
                self._circuit = self._circuit.broken_off()
            raise
        with self._lock:
            self._circuit = self._circuit.succeeded()
        return scores

    def _enter(self) -> None:
        """Raises `PluginLeftOut` while the executable is not asked."""
        now_s = time.monotonic()
        with self._lock:
            if not self._circuit.admits(now_s):
                after = f"after {self._circuit.strikes} failures in a row, the last: it {self._last_error}"
                pause = f"for {self._circuit.retry_in_s(now_s):.0f} s more"
                raise PluginLeftOut(PLUGIN, f"{self._name} is left out {pause} {after}")
            self._circuit = self._circuit.entered()

    def _failed(self, problem: str) -> None:
        with self._lock:
            self._circuit = self._circuit.failed(time.monotonic(), DEFAULT_RULES)
            self._last_error = problem


def _scores(answer: bytes, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
    """Scores by node. Raises `CommandFailed`; the core looks at the numbers."""
    from pvc_core.child_process import CommandFailed

    if not answer.strip():
        raise CommandFailed("answered nothing")
    try:
        scores = _READER.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandFailed(f"answered no JSON object of numbers: {error}") from error
    names = {node.name for node in candidates}
    if scores.keys() != names:
        raise CommandFailed(f"{_difference(scores.keys() - names, names - scores.keys())}")
    return scores


def _difference(unknown: set[str], missing: set[str]) -> str:
    said = []
    if unknown:
        said.append(f"scored {', '.join(sorted(unknown))}, no candidate")
    if missing:
        said.append(f"has no score for {', '.join(sorted(missing))}")
    return " and ".join(said)


# ------------------------------------------------------------------------------------------------- hooks


@hookimpl
def pvc_config_section() -> ConfigSection:
    return ConfigSection(machine=Executables)


@hookimpl
def pvc_selectors(options: PluginOptions) -> Sequence[SelectorEntry]:
    commands: Mapping[str, Command] = options.machine.commands
    return [SelectorEntry(name, one.summary, Executable(name, one)) for name, one in commands.items()]
