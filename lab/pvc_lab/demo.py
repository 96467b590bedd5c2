# SPDX-License-Identifier: Apache-2.0
"""`make demo`: the tour on embedded parts, on any machine with Python, as any user, in less than a minute.

`pvc-demo up` starts the same cluster and leaves it running, to try things on: plugins of one's own, for example.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.kept_cluster import KeptCluster, NotOursError, NotUpError
from pvc_lab.tour import Tour

LABELS = {"hv1": {"zone": "busy"}, "hv2": {"zone": "busy"}, "hv3": {"zone": "quiet"}}
"""Of the cluster that stays up, so that there is something to choose nodes by."""


def default_root() -> Path:
    """Where the cluster that stays up has its files."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(state) / "pvc-demo"


def tour() -> int:
    """Run the tour in a temporary folder; 0 when every claim held."""
    with tempfile.TemporaryDirectory(prefix="pvc-demo-") as folder, EmbeddedCluster(Path(folder)) as cluster:
        Tour(cluster).run()
    return 0


def up(cluster: KeptCluster) -> int:
    """Start the cluster and say how to use it."""
    started = cluster.up()
    print(f"The demo cluster is up{'' if started else ' already'}. Now:\n")
    print(f"    . {cluster.access_path}\n    pvc node list\n")
    print("`pvc-demo restart` makes its daemons load new plugins, `pvc-demo down` ends it.")
    return 0


def restart(cluster: KeptCluster) -> int:
    """Start its daemons and its API anew."""
    cluster.restart()
    print("the daemons and the API of the demo cluster have started anew")
    return 0


def down(cluster: KeptCluster) -> int:
    """End the cluster and remove all that it had."""
    print("the demo cluster is down" if cluster.down() else "no demo cluster is up")
    return 0


def main() -> int:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(prog="pvc-demo", description="A cluster of simulated hypervisors on this machine.")
    parser.add_argument(
        "command",
        nargs="?",
        choices=("tour", "up", "restart", "down"),
        default="tour",
        help="tour: show everything once; up, restart, down: a cluster that stays (default: %(default)s)",
    )
    parser.add_argument("--root", type=Path, help=f"folder of the cluster that stays (default: {default_root()})")
    arguments = parser.parse_args()
    if arguments.command == "tour":
        return tour()
    cluster = KeptCluster((arguments.root or default_root()).absolute(), labels=LABELS)
    try:
        return {"up": up, "restart": restart, "down": down}[arguments.command](cluster)
    except (NotUpError, NotOursError) as error:
        print(f"pvc-demo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
