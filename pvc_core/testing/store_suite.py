# SPDX-License-Identifier: Apache-2.0
"""store_suite: the rules every store driver keeps, as tests that a driver's author inherits.

    from pvc_core.testing.store_suite import StoreContract, StoreHarness

    class MyHarness(StoreHarness): ...

    class TestMyStore(StoreContract):
        @pytest.fixture
        def harness(self, tmp_path):
            harness = MyHarness(tmp_path)
            yield harness
            harness.close()

Each test gets an empty store. `pytest.register_assert_rewrite("pvc_core.testing")` in the author's conftest
makes failures readable.
"""

from __future__ import annotations

from pvc_core.testing.store_harness import Recorder, StoreHarness, eventually
from pvc_core.testing.store_rules_election import ElectionRules
from pvc_core.testing.store_rules_mirrors import MirrorRules
from pvc_core.testing.store_rules_rename import RenameRules
from pvc_core.testing.store_rules_sessions import SessionRules
from pvc_core.testing.store_rules_transactions import TransactionRules
from pvc_core.testing.store_rules_values import ValueRules
from pvc_core.testing.store_rules_watches import WatchRules

__all__ = ["Recorder", "StoreContract", "StoreHarness", "eventually"]


class StoreContract(ValueRules, TransactionRules, RenameRules, WatchRules, MirrorRules, SessionRules, ElectionRules):
    """All rules of `pvc_core.ports.ClusterStore`. A subclass has a fixture `harness`."""
