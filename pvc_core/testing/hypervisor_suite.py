# SPDX-License-Identifier: Apache-2.0
"""hypervisor_suite: the rules every hypervisor driver keeps, as tests that a driver's author inherits.

    from pvc_core.testing.hypervisor_suite import HypervisorContract, HypervisorTestbed

    class MyTestbed: ...  # see HypervisorTestbed

    class TestMyHypervisor(HypervisorContract):
        @pytest.fixture
        def testbed(self, tmp_path):
            return MyTestbed(tmp_path)

`pytest.register_assert_rewrite("pvc_core.testing")` in the author's conftest makes failures readable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pvc_core.testing.hypervisor_harness import Bench, HypervisorTestbed
from pvc_core.testing.hypervisor_rules_connections import ConnectionRules
from pvc_core.testing.hypervisor_rules_disks import DiskRules
from pvc_core.testing.hypervisor_rules_holds import HoldRules
from pvc_core.testing.hypervisor_rules_life import LifeRules
from pvc_core.testing.hypervisor_rules_migration import MigrationRules
from pvc_core.testing.hypervisor_rules_secrets import SecretRules

__all__ = ["Bench", "HypervisorContract", "HypervisorTestbed"]


class HypervisorContract(LifeRules, DiskRules, HoldRules, SecretRules, ConnectionRules, MigrationRules):
    """All rules of `pvc_core.ports.Hypervisor`. A subclass has a fixture `testbed`."""

    @pytest.fixture
    def bench(self, testbed: HypervisorTestbed) -> Iterator[Bench]:
        """Both hosts, each with a started driver."""
        with ExitStack() as cleanup:
            yield Bench(testbed, cleanup)

    @pytest.fixture
    def slow(self, testbed: HypervisorTestbed) -> Iterator[Bench]:
        """The same, but there is plenty of time to act while a guest migrates."""
        with ExitStack() as cleanup:
            yield Bench(testbed, cleanup, slow_migrations=True)
