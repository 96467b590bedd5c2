# SPDX-License-Identifier: Apache-2.0
"""Writes a third party's distribution of one module, which is its plugin, into a folder for PYTHONPATH."""

from __future__ import annotations

import textwrap
from pathlib import Path


def install_module(folder: Path, name: str, code: str) -> None:
    """The distribution, its plugin and, with underscores, its module are called `name`."""
    module = name.replace("-", "_")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(textwrap.dedent(code))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pvc]\n{name} = {module}\n")
