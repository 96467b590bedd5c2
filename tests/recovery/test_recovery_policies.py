# SPDX-License-Identifier: Apache-2.0
"""The built-in recovery policies: each passes the suite and means what its name says."""

from __future__ import annotations

from pvc_core.registry import Registry
from pvc_core.testing.builders import a_request, a_vm
from pvc_core.testing.recovery_suite import RecoveryPolicySuite


class TestRestart(RecoveryPolicySuite):
    name = "restart"

    def test_the_vm_is_held(self) -> None:
        assert self.answer(a_request(a_vm("web1"))) == "hold"
        assert self.answer_after_loss(a_request(a_vm("web1"))) == "restart"


class TestStay(RecoveryPolicySuite):
    name = "stay"

    def test_the_vm_stays(self) -> None:
        assert self.answer(a_request(a_vm("web1"))) == "stay"
        assert self.answer_after_loss(a_request(a_vm("web1"))) == "hold"


class TestStop(RecoveryPolicySuite):
    name = "stop"

    def test_the_vm_is_off_after_a_loss_and_held_in_a_drain(self) -> None:
        assert self.answer(a_request(a_vm("web1"))) == "hold"
        assert self.answer_after_loss(a_request(a_vm("web1"))) == "stop"


def test_every_built_in_policy_is_tested_here() -> None:
    own = {name for name, entry in Registry.load().recovery_policies.items() if entry.plugin == "recovery"}
    assert own == {TestRestart.name, TestStay.name, TestStop.name}
