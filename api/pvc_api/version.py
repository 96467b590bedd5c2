# SPDX-License-Identifier: Apache-2.0
"""version: which PVC this is."""

from __future__ import annotations

import importlib.metadata
from functools import cache


@cache
def pvc_version() -> str:
    """The version of the installed distribution."""
    return importlib.metadata.version("pvc")
