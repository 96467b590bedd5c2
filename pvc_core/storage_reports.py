# SPDX-License-Identifier: Apache-2.0
"""storage_reports: what a node's report says of each storage backend: whether its volumes can be used from there."""

from __future__ import annotations

import msgspec


class BackendReport(msgspec.Struct, frozen=True, kw_only=True):
    """One storage backend as one host sees it. detail: a sentence for the operator. capabilities: sorted."""

    usable: bool
    detail: str = ""
    capabilities: tuple[str, ...] = ()

    @property
    def shared(self) -> bool:
        """Every node reaches the same volumes through it."""
        return "shared" in self.capabilities
