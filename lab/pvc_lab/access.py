# SPDX-License-Identifier: Apache-2.0
"""access: the shell script that makes a person's `pvc` speak to a cluster that was left running."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from pvc_lab.tour_cluster import program


def write_access(path: Path, environment: Mapping[str, str]) -> None:
    """To be sourced: `. access.sh`. Only its owner may read it, because a token is in it."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines.append(f"export PATH={shlex.quote(str(Path(program('pvc')).parent))}:$PATH")
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text("\n".join(lines) + "\n")
