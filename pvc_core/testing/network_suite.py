# SPDX-License-Identifier: Apache-2.0
"""network_suite: what every kind of network must do; a subclass with a name proves what needs no host to try it on.

    from pvc_core.testing.network_suite import NetworkDriverSuite

    class TestAcmeFabric(NetworkDriverSuite):
        name = "acme-fabric"

        def host(self):
            return NamespaceHost()  # a host to make networks on, or a simulation of one: see `NetworkHost`

Without a host the rules about one are skipped: a driver removes what it is not told to make, so that the suite never
works on the machine that it runs on. `spec` says what a network of this kind needs, `wrong` what it cannot have.
"""

from __future__ import annotations

from pvc_core.testing.network_bench import NetworkBench, NetworkHost
from pvc_core.testing.network_rules_hosts import HostRules
from pvc_core.testing.network_rules_specs import SpecRules

__all__ = ["NetworkBench", "NetworkDriverSuite", "NetworkHost"]


class NetworkDriverSuite(SpecRules, HostRules):
    """All rules of `pvc_core.networks`. A subclass has a `name`."""
