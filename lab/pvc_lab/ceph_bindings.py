# SPDX-License-Identifier: Apache-2.0
"""ceph_bindings: makes Debian's bindings of Ceph, `rados` and `rbd`, importable for the Python that runs this.

There are no wheels of them. Debian's are compiled modules for Debian's own Python, and serve every Python of the same
version; a virtual environment just does not look where they are. Only these two files are linked into it: the folder
they come from would bring all of Debian's packages along.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from pathlib import Path

BINDINGS = ("rados", "rbd")
DEBIAN_FOLDER = Path("/usr/lib/python3/dist-packages")


class NoBindingsError(RuntimeError):
    """The bindings cannot be made importable; the message says why and what would help."""


def why_missing() -> str:
    """Why `rados` and `rbd` cannot be imported; "" when they can."""
    absent = [name for name in BINDINGS if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    return f"Python cannot import {' and '.join(absent)}: `make real-parts`, as root, installs and links them"


def link(source: Path = DEBIAN_FOLDER, target: Path | None = None, suffix: str = "") -> list[Path]:
    """Link the bindings into this Python's site-packages; those that were not there yet come back.

    suffix: how the files of compiled modules end for this Python, which says whether they fit. Raises
    `NoBindingsError`.
    """
    suffix = suffix or str(sysconfig.get_config_var("EXT_SUFFIX"))
    target = target or Path(sysconfig.get_path("platlib"))
    made = []
    for name in BINDINGS:
        binding, linked = source / f"{name}{suffix}", target / f"{name}{suffix}"
        if not binding.exists():
            raise NoBindingsError(_why_not(name, source, suffix))
        if linked.exists():
            continue
        linked.unlink(missing_ok=True)  # a link to what is gone
        linked.symlink_to(binding)
        made.append(linked)
    return made


def _why_not(name: str, source: Path, suffix: str) -> str:
    others = sorted(path.name for path in source.glob(f"{name}.*.so"))
    if not others:
        return f"Ceph's binding {name} is not in {source}: apt install python3-{name}"
    return (
        f"Ceph's binding {name} in {source} is {others[0]}, and this Python ({sys.executable}) needs {name}{suffix}: "
        f"make .venv with Debian's Python, or with another one of its version"
    )


def main() -> int:
    """Link them and say so; 1 with the reason when that cannot be done."""
    if not why_missing():
        return 0
    try:
        made = link()
    except (NoBindingsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"linked Ceph's bindings into {os.path.dirname(made[0]) if made else 'this Python'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
