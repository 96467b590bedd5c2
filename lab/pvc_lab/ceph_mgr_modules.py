# SPDX-License-Identifier: Apache-2.0
"""ceph_mgr_modules: the folder of modules that a manager daemon loads: two real ones, and stand-ins that do nothing.

A manager refuses to be healthy without those that are always on, and with the real ones it takes twice as long to
start and three times the memory.
"""

from __future__ import annotations

from pathlib import Path

_INSTALLED = Path("/usr/share/ceph/mgr")
_REAL = ("mgr_module.py", "mgr_util.py", "status", "rbd_support")
_STAND_INS = (
    "balancer",
    "crash",
    "devicehealth",
    "orchestrator",
    "pg_autoscaler",
    "progress",
    "telemetry",
    "volumes",
)
_STAND_IN = """\
from mgr_module import MgrModule


class Module(MgrModule):
    pass
"""


def make_modules(folder: Path) -> Path:
    """Fill the folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _REAL:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(_INSTALLED / name)
    for name in _STAND_INS:
        module = folder / name
        module.mkdir(exist_ok=True)
        (module / "__init__.py").write_text("from .module import Module\n")
        (module / "module.py").write_text(_STAND_IN)
    return folder
