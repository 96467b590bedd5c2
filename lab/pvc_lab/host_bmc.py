# SPDX-License-Identifier: Apache-2.0
"""host_bmc: a BMC for a host of the lab, on a wire that stays when the host's cable is cut.

It has an address of its own on the lab's subnet, reached by every host whose cable is in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pvc_lab.bmc import Bmc, Power
from pvc_lab.host import LAB_VARIABLE
from pvc_lab.lab import Lab
from pvc_lab.processes import Process, spawn

BMC_USER = "admin"
BMC_PASSWORD = "Swordfish-4711"

FENCE_AGENT = "fence-agents"


def fence_parameters(bmc: Bmc) -> dict[str, str]:
    """What `pvc node fence-device add NODE fence-agents` is told of it, but for the secret, the password."""
    return {
        "agent": "fence_ipmilan",
        "ip": bmc.address,
        "lanplus": "1",
        "cipher": "3",  # the only one of this BMC
        "username": BMC_USER,
        "power_wait": "0",
        "power_timeout": "5",
        "ipmitool_timeout": "2",  # it is near, and answers in 60 ms or not at all
    }


def host_bmc(lab: Lab, node: str, on_power: Callable[[Power], None]) -> Bmc:
    """The BMC of a node of a lab that is up, not started yet. `on_power`: see `pvc_lab.bmc.OnPower`."""
    network = lab.network
    address = network.add_bmc_address(lab.nodes[node].number)

    def spawn_on_wire(argv: Sequence[str], log_path: Path, env: Mapping[str, str] | None = None) -> Process:
        marked = {**os.environ, **(env or {}), LAB_VARIABLE: network.prefix}  # found by `leftovers`
        return spawn(["ip", "netns", "exec", network.switch, *argv], log_path, marked)

    return Bmc(
        lab.root / "bmcs" / node,
        address,
        user=BMC_USER,
        password=BMC_PASSWORD,
        on_power=on_power,
        spawn=spawn_on_wire,
    )
