# SPDX-License-Identifier: Apache-2.0
"""Ports for servers of programs that run side by side: each is chosen once, by whichever program."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress

import pytest

from pvc_lab import free_ports

FEW = 4
TAKES = (
    "import sys; from pvc_lab import free_ports as f; f._RANGE = range(*map(int, sys.argv[1:])); print(f.free_port())"
)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> range:
    """All ports that there are, for this test."""
    first = free_ports.free_port()
    few = range(first + 1, first + 1 + FEW)
    monkeypatch.setattr(free_ports, "_RANGE", few)
    return few


def elsewhere(ports: range) -> subprocess.CompletedProcess[str]:
    """Another program chooses one of these."""
    command = [sys.executable, "-c", TAKES, str(ports.start), str(ports.stop)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def chosen_here() -> list[int]:
    """Until there are none left, or more than there are."""
    found: list[int] = []
    with suppress(OSError):
        while len(found) <= FEW:
            found.append(free_ports.free_port())
    return found


def test_a_port_is_given_once_although_nobody_listens_on_it_yet(few: range) -> None:
    assert sorted(chosen_here()) == list(few)
    assert "no free port" in elsewhere(few).stderr


def test_what_a_program_that_has_ended_was_given_is_free_again(few: range) -> None:
    port = int(elsewhere(few).stdout)
    assert port in few
    assert port in chosen_here()


def test_a_port_on_which_somebody_listens_is_not_given(few: range) -> None:
    with socket.create_server(("127.0.0.1", few.start)):
        assert few.start not in chosen_here()
