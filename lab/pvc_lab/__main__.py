# SPDX-License-Identifier: Apache-2.0
"""`python -m pvc_lab`: the tour on real parts, and a lab to explore: install, tour, up, down."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from pvc_lab import packages
from pvc_lab.access import write_access
from pvc_lab.real_cluster import RealCluster
from pvc_lab.tour import Tour

DEFAULT_ROOT = Path("/var/tmp/pvc-lab")


def install() -> int:
    """Install the Debian packages that the lab needs."""
    installed = packages.install()
    print(f"installed: {', '.join(installed)}" if installed else "every Debian package of the lab is there")
    return 0


def tour() -> int:
    """The tour in a lab of its own, which is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pvc-lab-"))
    with RealCluster(folder) as cluster:
        Tour(cluster).run()
    shutil.rmtree(folder)
    return 0


def up(root: Path, *, ceph: bool) -> int:
    """Bring a lab up and leave it running, with a shell script that makes `pvc` speak to it."""
    cluster = RealCluster(root, ceph=ceph)
    cluster.up()
    cluster.watch.close()
    access = root / "access.sh"
    write_access(access, cluster.environment)
    print(f"The lab is up in {root}. Now:\n\n    . {access}\n    pvc node list\n\n`make lab-down` ends it.")
    return 0


def down(root: Path) -> int:
    """End what `up` has left running."""
    RealCluster(root).down()
    shutil.rmtree(root, ignore_errors=True)
    print("the lab is down")
    return 0


def main() -> int:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(prog="pvc-lab", description=__doc__)
    parser.add_argument("command", choices=("install", "tour", "up", "down"))
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT, help="folder of the lab (default: %(default)s)")
    parser.add_argument("--ceph", action="store_true", help="up: with a Ceph cluster")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("the lab needs root: it makes network namespaces and runs libvirtd")
    if arguments.command == "install":
        return install()
    if arguments.command == "tour":
        return tour()
    if arguments.command == "down":
        return down(arguments.root)
    if arguments.ceph and (reason := packages.why_no_ceph()):
        parser.error(f"no Ceph cluster can be started here: {reason}")
    return up(arguments.root, ceph=arguments.ceph)


if __name__ == "__main__":
    sys.exit(main())
