# SPDX-License-Identifier: Apache-2.0
"""guest: how a simulated guest behaves, as its own definition says.

So a demo or a test chooses the behaviour of each VM with the XML it defines, through the real API and daemon.
The attributes of `<sim:guest xmlns:sim="https://pvc.example/simulated/1" .../>` inside <metadata>:

| attribute | default | |
| --- | --- | --- |
| `boot-s` | the host's | how long a start takes |
| `shutdown-s` | 0.2 | how long the guest takes to power off when asked |
| `ignores-shutdown` | no | `yes`: it never does |
| `migrate-s` | the host's | how long a live migration takes |
| `start-failures` | 0 | so many starts fail, the next one works; counted for the VM on all hosts together |
| `migrate-failures` | 0 | so many migrations fail half-way |
| `needs-downtime-ms` | 0 | with a lower maximum downtime its migration never ends by itself |
| `starts-only-on` | any | the only node where it starts |
| `keeps-disks` | no | `yes`: it never lets go of a disk |
| `agent` | no | `yes`: it has one, which freezes its file systems; `dies`: one that never thaws them |
| `crashes-after-s` | never | it crashes so long after each start |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import overload

from pvc_core.domain_xml import read_domain
from pvc_core.errors import HypervisorError

NAMESPACE = "https://pvc.example/simulated/1"


@dataclass(frozen=True, slots=True)
class GuestBehaviour:
    """See the module. None: as the host's options say, or never."""

    boot_s: float | None = None
    shutdown_s: float = 0.2
    ignores_shutdown: bool = False
    keeps_disks: bool = False
    agent: str = "no"
    migrate_s: float | None = None
    start_failures: int = 0
    migrate_failures: int = 0
    needs_downtime_ms: int = 0
    starts_only_on: str = ""
    crashes_after_s: float | None = None


def behaviour_of(xml: str) -> GuestBehaviour:
    """The behaviour that a definition describes; `HypervisorError` when it makes no sense."""
    element = read_domain(xml).find(f"metadata/{{{NAMESPACE}}}guest")
    attributes = {} if element is None else {str(name): str(value) for name, value in element.attrib.items()}
    reader = _Attributes(attributes)
    behaviour = GuestBehaviour(
        boot_s=reader.seconds("boot-s"),
        shutdown_s=reader.seconds("shutdown-s", 0.2),
        ignores_shutdown=reader.flag("ignores-shutdown"),
        keeps_disks=reader.flag("keeps-disks"),
        agent=reader.one_of("agent", "no", "yes", "dies"),
        migrate_s=reader.seconds("migrate-s"),
        start_failures=reader.count("start-failures"),
        migrate_failures=reader.count("migrate-failures"),
        needs_downtime_ms=reader.count("needs-downtime-ms"),
        starts_only_on=reader.text("starts-only-on"),
        crashes_after_s=reader.seconds("crashes-after-s"),
    )
    reader.refuse_the_rest()
    return behaviour


class _Attributes:
    """Reads attributes by name and type, and knows which ones nobody asked for."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._unread = dict(attributes)

    def text(self, name: str) -> str:
        return self._unread.pop(name, "")

    def flag(self, name: str) -> bool:
        text = self.text(name) or "no"
        if text not in ("yes", "no"):
            raise HypervisorError(f"simulated guest: {name}={text!r} is neither yes nor no")
        return text == "yes"

    def one_of(self, name: str, *words: str) -> str:
        text = self.text(name) or words[0]
        if text not in words:
            raise HypervisorError(f"simulated guest: {name}={text!r} is none of {', '.join(words)}")
        return text

    def count(self, name: str) -> int:
        text = self.text(name) or "0"
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise HypervisorError(f"simulated guest: {name}={text!r} is not a whole number from 0 up")
        return int(text)

    @overload
    def seconds(self, name: str) -> float | None: ...
    @overload
    def seconds(self, name: str, default: float) -> float: ...
    def seconds(self, name: str, default: float | None = None) -> float | None:
        text = self.text(name)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise HypervisorError(f"simulated guest: {name}={text!r} is not a number of seconds")
        return value

    def refuse_the_rest(self) -> None:
        if self._unread:
            raise HypervisorError(f"simulated guest: unknown attributes {', '.join(sorted(self._unread))}")
