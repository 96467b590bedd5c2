# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks`: every benchmark with its budgets, one after the other; exits with 1 when one is missed."""

from __future__ import annotations

import sys

from benchmarks import balance, ceph, listing, placement, placement_scale, recovery, simulation

if __name__ == "__main__":
    measured = (placement, placement_scale, balance, simulation, listing, ceph, recovery)
    sys.exit(max(benchmark.main([]) for benchmark in measured))
