# SPDX-License-Identifier: Apache-2.0
"""Selectors that rank by memory, load, vCPUs or number of VMs."""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core import SelectorEntry, hookimpl
from pvc_selectors import even, load, mem, memprov, vcpus, vms


@hookimpl
def pvc_selectors() -> Sequence[SelectorEntry]:
    return (mem.ENTRY, memprov.ENTRY, load.ENTRY, vcpus.ENTRY, vms.ENTRY, even.ENTRY)
