# SPDX-License-Identifier: Apache-2.0
"""bindings: Ceph's modules `rados` and `rbd`, which come with Ceph and not with PVC, or how to get them."""

from __future__ import annotations

from typing import Any, NamedTuple

from pvc_core.errors import StorageUnavailable

HOW_TO_INSTALL = (
    "Python cannot import Ceph's `rados` and `rbd` here: apt install python3-rados python3-rbd, "
    "and let PVC run with a Python of the version that they are made for"
)


class Bindings(NamedTuple):
    """The two modules, which have no types."""

    rados: Any
    rbd: Any


def load() -> Bindings:
    """The modules. Raises `StorageUnavailable` when they are not installed."""
    try:
        import rados
        import rbd
    except ImportError as error:
        raise StorageUnavailable("ceph", f"{HOW_TO_INSTALL} ({error})") from error
    return Bindings(rados, rbd)
