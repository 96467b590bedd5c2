# SPDX-License-Identifier: Apache-2.0
"""power_cut: the command by which the watchdog of a node on simulated hosts ends its host.

python -m pvc_lab.power_cut FOLDER-OF-THE-HOSTS NODE
"""

from __future__ import annotations

import sys
from pathlib import Path

from pvc_plugins.hypervisors.simulated import SimulatedWorld


def main(folder: str, node: str) -> None:
    """The node's power fails."""
    with SimulatedWorld(Path(folder)) as world:
        world.cut_power(node)


if __name__ == "__main__":
    main(*sys.argv[1:])
