# SPDX-License-Identifier: Apache-2.0
"""Whenever a call of the backend `directory` is killed, the pool holds what it held before or what it should after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.killed_calls import CALLS

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_is_killed_at_any_step_leaves_the_old_state_or_the_new_one(
    call: str, tmp_path: Path, require: Callable[[str], None]
) -> None:
    require("qemu-img")
    ran = subprocess.run(
        [sys.executable, "-m", "storage.killed_calls", str(tmp_path), call],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert ran.returncode == 0, ran.stderr
    times = [json.loads(line) for line in ran.stdout.splitlines()]
    old, new = times[0]["before"], times[-1]["after"]
    assert old != new
    assert len(times) > 2, "it was killed at no step"
    assert times[0]["after"] == old
    for at, time in enumerate(times, start=1):
        assert time["after"] in (old, new), f"killed before its change {at}, it leaves neither"
        assert time["mended"] == time["after"], f"killed before its change {at}: mending has changed a volume"
        assert time["left"] == []
