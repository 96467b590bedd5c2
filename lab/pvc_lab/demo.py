# SPDX-License-Identifier: Apache-2.0
"""`make demo`: the tour on embedded parts, on any machine with Python, as any user, in less than a minute."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.tour import Tour


def main() -> int:
    """Run the tour in a temporary folder; 0 when every claim held."""
    with tempfile.TemporaryDirectory(prefix="pvc-demo-") as folder, EmbeddedCluster(Path(folder)) as cluster:
        Tour(cluster).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
