# SPDX-License-Identifier: Apache-2.0
"""Filters that keep VMs within limits and rules, on nodes in service, where they fit and reach their storage."""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core import FilterEntry, hookimpl
from pvc_plugins.filters import exclude, limit, memory, ready, rules, storage, vcpus


@hookimpl
def pvc_filters() -> Sequence[FilterEntry]:
    return (limit.ENTRY, ready.ENTRY, memory.ENTRY, vcpus.ENTRY, exclude.ENTRY, rules.ENTRY, storage.ENTRY)
