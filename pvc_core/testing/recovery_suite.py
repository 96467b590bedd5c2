# SPDX-License-Identifier: Apache-2.0
"""recovery_suite: what every recovery policy must do; a subclass with a name is enough to prove it of yours.

    from pvc_core.testing.recovery_suite import RecoveryPolicySuite

    class TestPrecious(RecoveryPolicySuite):
        name = "precious"

The policy is the one that the installed plugins register. Override `registry` to test a plugin that is not installed,
`requests` for VMs that your policy treats in a special way.
"""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core.plugin_types import LossPolicy, PlacementRequest, RecoveryPolicyEntry
from pvc_core.testing.builders import a_request, a_vm
from pvc_core.testing.driver_suite import DriverSuite

ANSWERS = ("hold", "stay")
ANSWERS_AFTER_LOSS = ("restart", "hold", "stop")


class RecoveryPolicySuite(DriverSuite[RecoveryPolicyEntry]):
    """The rules for every recovery policy."""

    kind = "recovery_policies"

    def requests(self) -> Sequence[PlacementRequest]:
        """The VMs that the policy is asked about."""
        return (
            a_request(a_vm("web1")),
            a_request(a_vm("db1", node_limit=("hv1",), priority=1000, tags=("precious", "db"))),
            a_request(a_vm("huge", memory_mib=2**30, vcpus=4096, priority=-1000)),
            a_request(a_vm("auto1", node_autostart=True, home="hv2")),
        )

    def answer(self, request: PlacementRequest) -> str:
        """What the policy makes of a VM that has no candidate."""
        return self.entry().policy.without_candidate(self.with_options(request))

    def answer_after_loss(self, request: PlacementRequest) -> str:
        """What the policy makes of a VM whose node is off."""
        policy = self.entry().policy
        return policy.after_loss(self.with_options(request)) if isinstance(policy, LossPolicy) else "restart"

    def test_after_a_loss_it_says_restart_hold_or_stop(self) -> None:
        for request in self.requests():
            answer = self.answer_after_loss(request)
            assert answer in ANSWERS_AFTER_LOSS, f"{request.vm}: {answer!r} is none of {ANSWERS_AFTER_LOSS}"
            assert answer == self.answer_after_loss(request)

    def test_it_says_hold_or_stay(self) -> None:
        for request in self.requests():
            assert self.answer(request) in ANSWERS, f"{request.vm}: {self.answer(request)!r} is none of {ANSWERS}"

    def test_it_gives_the_same_answer_twice(self) -> None:
        for request in self.requests():
            assert self.answer(request) == self.answer(request)

    def test_another_vm_in_between_does_not_change_its_answer(self) -> None:
        requests = self.requests()
        alone = [self.answer(request) for request in requests]
        assert [self.answer(request) for request in requests[::-1]] == alone[::-1]
