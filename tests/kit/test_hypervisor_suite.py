# SPDX-License-Identifier: Apache-2.0
"""The suite for hypervisors catches drivers that break its rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hypervisors.simulated_testbed import SimulatedTestbed
from kit import broken_hypervisors
from kit.broken_hypervisors import Broken
from kit.suite_proof import takes, verdict_with
from pvc_core.testing.hypervisor_suite import Bench, HypervisorContract
from pvc_plugins.hypervisors.simulated import SimulatedHypervisor

PATIENT_S, IMPATIENT_S = 30.0, 2.0
BROKEN = [
    found
    for found in vars(broken_hypervisors).values()
    if isinstance(found, type) and issubclass(found, Broken) and found.breaks
]
CAUGHT = [(f"test_{rule}", broken) for broken in BROKEN for rule in broken.breaks]


def verdict(driver: type[SimulatedHypervisor], rule: str, deadline_s: float) -> str:
    [bench] = {"bench", "slow"} & takes(HypervisorContract, rule)

    @contextmanager
    def given() -> Iterator[Mapping[str, Bench]]:
        with TemporaryDirectory() as folder:
            testbed = SimulatedTestbed(Path(folder) / "world", driver, deadline_s)
            with ExitStack() as cleanup:
                yield {bench: Bench(testbed, cleanup, slow_migrations=bench == "slow")}
            testbed.world.close()

    return verdict_with(HypervisorContract, rule, given)


@pytest.mark.parametrize("rule", sorted({rule for rule, _ in CAUGHT}))
def test_a_hypervisor_that_does_it_right_keeps_the_rule(rule: str) -> None:
    assert verdict(SimulatedHypervisor, rule, PATIENT_S) == "kept"


@pytest.mark.parametrize(("rule", "broken"), CAUGHT, ids=[f"{broken.__name__}-{rule}" for rule, broken in CAUGHT])
def test_the_suite_catches_a_broken_hypervisor(rule: str, broken: type[Broken]) -> None:
    assert verdict(broken, rule, IMPATIENT_S) != "kept"
