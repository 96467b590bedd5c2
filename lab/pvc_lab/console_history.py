# SPDX-License-Identifier: Apache-2.0
"""console_history: what a guest's console proves afterwards: that there was one guest at a time.

All hypervisors append a guest's console to one file, whoever runs it. A guest that ran twice at once has left lines
of one boot among those of another, which nothing can take away again.
"""

from __future__ import annotations

from collections.abc import Iterable

from pvc_lab.guest_image import Tick


def overlaps(ticks: Iterable[Tick]) -> list[str]:
    """A sentence for every line that a single guest cannot have written, in the order of the lines.

    A boot counts upwards, and is over for good when the next one has begun.
    """
    found = []
    over: set[str] = set()
    last: Tick | None = None
    for tick in ticks:
        if last is not None and tick.boot_id != last.boot_id:
            over.add(last.boot_id)
        if tick.boot_id in over:
            found.append(f"boot {tick.boot_id} counted on to {tick.count} after another had begun")
        elif last is not None and tick.boot_id == last.boot_id and tick.count <= last.count:
            found.append(f"boot {tick.boot_id} counted {tick.count} after {last.count}")
        last = tick
    return found
