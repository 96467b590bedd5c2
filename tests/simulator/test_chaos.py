# SPDX-License-Identifier: Apache-2.0
"""Chaos: seeds without a violation, the same run from the same seed, and known bugs that are found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pvc_core.fencing import FenceRequest, FenceVerdict
from pvc_core.ports import Check, Op, Set
from pvc_simulator.application import play_chaos, shrink_chaos
from pvc_simulator.chaos import Shape, make_play
from pvc_simulator.fence_devices import SimulatedFenceAgent
from pvc_simulator.scenario import read_scenario
from pvc_simulator.store_server import StoreServer

HOURS, NODES, VMS = 0.5, 5, 40
WITHIN_SEEDS = 50

PLAY = """
import json, sys
from pvc_simulator.chaos import Shape, make_play
outcome = make_play(int(sys.argv[1]), Shape(hours=0.3)).run()
print(json.dumps([outcome.turns, [seen.shown() for seen in outcome.seen], outcome.vms]))
"""


@pytest.mark.parametrize("seed", range(1, 9))
def test_nothing_is_violated(seed: int) -> None:
    assert play_chaos(seed, HOURS, NODES, VMS)["violations"] == []


def test_the_same_seed_is_the_same_run_whatever_python_hashes() -> None:
    def played(hash_seed: str) -> object:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", PLAY, "4"], env=environment, capture_output=True, check=True)
        return json.loads(done.stdout)

    assert played("1") == played("2")


def test_another_seed_is_another_run() -> None:
    one, two = make_play(1, Shape(HOURS)), make_play(2, Shape(HOURS))
    assert [line.do for line in one.script] != [line.do for line in two.script]


def first_found(invariants: set[str]) -> int:
    """The first seed that violates one of these."""
    for seed in range(1, WITHIN_SEEDS + 1):
        found = play_chaos(seed, HOURS, NODES, VMS)["violations"]
        if any(broken["invariant"] in invariants for broken in found):
            return seed
    pytest.fail(f"nothing was found in {WITHIN_SEEDS} seeds")


def test_a_fence_that_is_taken_for_confirmed_without_proof_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def believed(self: SimulatedFenceAgent, request: FenceRequest) -> FenceVerdict:
        return FenceVerdict(True, "the command was accepted")

    monkeypatch.setattr(SimulatedFenceAgent, "power_off", believed)
    first_found({"runs once", "recovered from what is off"})


def test_a_version_check_that_is_dropped_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of a ledger is taken whatever has been written since it was read."""
    commit = StoreServer.commit

    def careless(self: StoreServer, ops: Sequence[Op], session_id: str) -> tuple[int, ...]:
        def now(op: Op) -> Op:
            stored = self.tree.stamped(op.key)
            if isinstance(op, Set) and stored is not None and op.key.startswith("/vms/"):
                return Set(op.key, op.data, stored.entry.version)
            return op

        kept = [now(op) for op in ops if not (isinstance(op, Check) and op.key.startswith("/vms/"))]
        return commit(self, kept, session_id)

    monkeypatch.setattr(StoreServer, "commit", careless)
    first_found({"runs once", "recovered from what is off", "memory fits", "what is to run runs", "daemons go on"})


def test_what_fails_is_shrunk_to_a_few_lines_that_can_be_played(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def believed(self: SimulatedFenceAgent, request: FenceRequest) -> FenceVerdict:
        return FenceVerdict(True, "the command was accepted")

    monkeypatch.setattr(SimulatedFenceAgent, "power_off", believed)
    seed = first_found({"runs once", "recovered from what is off"})
    shrunk = shrink_chaos(seed, HOURS, NODES, VMS, str(tmp_path / "found"), budget_s=20)
    assert shrunk["lines"] <= 5
    outcome, _ = read_scenario(tmp_path / "found").play(seed)
    assert outcome.broken
