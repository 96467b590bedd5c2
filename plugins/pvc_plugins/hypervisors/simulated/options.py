# SPDX-License-Identifier: Apache-2.0
"""options: what the URL of a simulated hypervisor says of its host.

`simulated:///path/to/folder?memory_mib=4096&cores=4&boot_s=0.05&migrate_s=0.3&load_1m=0.5`. All hosts that name
one folder form one simulated world; the options after `?` are of this host alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from pvc_core.errors import InvalidInput

SCHEME = "simulated"
_FIELD = "hypervisor"


@dataclass(frozen=True, slots=True)
class HostOptions:
    """One simulated host. `load_1m` None: a tenth of the vCPUs that run on it."""

    folder: Path
    memory_mib: int = 4096
    cores: int = 4
    boot_s: float = 0.05
    migrate_s: float = 0.3
    load_1m: float | None = None


def options_from(url: str) -> HostOptions:
    """Read the URL; `InvalidInput` names what is wrong with it."""
    parts = urlsplit(url)
    if parts.scheme != SCHEME or parts.netloc or not parts.path:
        raise InvalidInput(_FIELD, "is not the URL of a simulated hypervisor", url, (f"{SCHEME}:///path/to/folder",))
    known = {"memory_mib", "cores", "boot_s", "migrate_s", "load_1m"}
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(given.keys() - known):
        raise InvalidInput(_FIELD, "has an unknown option", unknown[0], sorted(known))
    numbers = {name: _number(name, text) for name, text in given.items()}
    return HostOptions(
        folder=Path(unquote(parts.path)),
        memory_mib=max(1, int(numbers.get("memory_mib", 4096))),
        cores=max(1, int(numbers.get("cores", 4))),
        boot_s=numbers.get("boot_s", 0.05),
        migrate_s=numbers.get("migrate_s", 0.3),
        load_1m=numbers.get("load_1m"),
    )


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise InvalidInput(_FIELD, f"has an option {name} that is not a number from 0 up", text)
    return number
