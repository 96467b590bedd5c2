# SPDX-License-Identifier: Apache-2.0
"""What every test of the simulator needs: nothing that it began is left to be unwound in the middle of another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvc_simulator.scheduler import Scheduler


@pytest.fixture(autouse=True)
def _schedulers_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[Scheduler] = []
    begin = Scheduler.__init__

    def remembered(self: Scheduler) -> None:
        begin(self)
        made.append(self)

    monkeypatch.setattr(Scheduler, "__init__", remembered)
    yield
    for scheduler in made:
        scheduler.close()
