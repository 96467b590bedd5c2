# SPDX-License-Identifier: Apache-2.0
"""What a scenario can say: lines that need a test of their own, and expectations that can fail."""

from __future__ import annotations

import pytest

from pvc_core.snapshot_file import parse_file
from pvc_simulator.expectations import read_expected, unmet
from pvc_simulator.run import Outcome, Run
from pvc_simulator.script import read_script

CLUSTER = """
nodes:
  hv1: {memory_mib: 8192}
  hv2: {memory_mib: 8192, daemon: off}
  hv3: {memory_mib: 8192, daemon: off}
vms: {web1: {node: hv2, memory_mib: 512}}
"""
HV1_LEADS = "- {at: 0.5, do: daemon hv2 start}\n- {at: 0.5, do: daemon hv3 start}\n"


def played(script: str) -> Outcome:
    file = parse_file(CLUSTER)
    return Run(file, read_script(HV1_LEADS + script, file)).play()


def test_a_late_device_switches_the_host_off_and_confirms_nothing() -> None:
    outcome = played("- {at: 9, do: fence-device hv2 late}\n- {at: 10, do: daemon hv2 kill}\n- {at: 90, do: end}\n")
    kinds = [seen.kind for seen in outcome.seen]
    assert "node_not_fenced" in kinds
    assert "node_fenced" not in kinds
    assert outcome.vms["web1"]["node"] == "hv2"


def test_the_host_of_the_leader_can_lose_its_power() -> None:
    outcome = played("- {at: 10, do: leader power off}\n")
    assert outcome.nodes["hv1"] == {"mode": "ready", "liveness": "lost"}
    assert [seen.node for seen in outcome.seen if seen.kind == "node_gone"] == ["hv1"]


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ("times: {vm_started web1: 1}", ""),
        ("times: {vm_started web1: 2}", "vm_started web1 happened 1 times, and was to happen 2 times"),
        ("within: [{from: power hv2 off, to: vm_started web1, seconds: 15, at_least: 4}]", ""),
        ("within: [{from: power hv2 off, to: vm_started web1, seconds: 60, at_least: 50}]", "before 50 s were over"),
    ],
)
def test_how_often_and_how_soon_at_the_earliest_can_be_expected(expected: str, said: str) -> None:
    missed = unmet(read_expected(expected), played("- {at: 10, do: power hv2 off}\n"))
    assert len(missed) == (1 if said else 0)
    assert said in "".join(missed)
