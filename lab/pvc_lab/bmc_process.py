# SPDX-License-Identifier: Apache-2.0
"""The BMC itself: speaks IPMI over LAN, keeps the power state in its folder and has its owner's hook switch.

A process of its own, because a BMC goes on when its host dies, and because one that hangs or is dead must be a matter
of a signal. `pvc_lab.bmc` starts it. Everything is in the folder: `bmc.json` (what to be), `power` (on or off, also
written by the owner), `deaf` (while it exists, commands are taken and not carried out), `ready`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from pyghmi.ipmi.bmc import Bmc

HOOK_DEADLINE_S = 30.0
_UNSPECIFIED_ERROR = 0xFF  # completion codes: IPMI v2.0, table 5-2


class Board(Bmc):  # type: ignore[misc]  # pyghmi ships no types
    """Answers chassis status and chassis control; pyghmi does the rest of the protocol."""

    def __init__(self, folder: Path, configuration: dict[str, Any]) -> None:
        super().__init__(
            {configuration["user"]: configuration["password"]},
            port=configuration["port"],
            address=configuration["address"],
        )
        self._folder = folder
        self._command: list[str] = configuration["command"]
        self._socket: str = configuration["socket"]

    def get_power_state(self) -> str:
        return read_power(self._folder)

    def power_on(self) -> int:
        return self._switch("on")

    def power_off(self) -> int:
        return self._switch("off")

    def power_reset(self) -> int:
        return self._switch("off") or self._switch("on")

    power_cycle = power_reset

    def _switch(self, power: str) -> int:
        """The state changes once the hook has done it: a BMC that says "off" is believed."""
        if (self._folder / "deaf").exists() or read_power(self._folder) == power:
            return 0
        try:
            self._tell(power)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"the hook did not switch {power}: {error}", file=sys.stderr, flush=True)
            return _UNSPECIFIED_ERROR
        write_power(self._folder, power)
        return 0

    def _tell(self, power: str) -> None:
        if self._command:
            subprocess.run([*self._command, power], check=True, timeout=HOOK_DEADLINE_S)
        if self._socket:
            ask_owner(self._socket, power)


def ask_owner(path: str, power: str) -> None:
    """Have the owner's hook called over its socket; OSError unless it says that it is done."""
    with socket.socket(socket.AF_UNIX) as owner:
        owner.settimeout(HOOK_DEADLINE_S)
        owner.connect(path)
        owner.sendall(f"{power}\n".encode())
        if owner.recv(16) != b"done\n":
            raise OSError("the owner's hook failed")


def read_power(folder: Path) -> str:
    """`on` or `off`."""
    return (folder / "power").read_text()


def write_power(folder: Path, power: str) -> None:
    """Change the state; a reader sees the old or the new one."""
    changed = folder / f"power.{os.getpid()}"
    changed.write_text(power)
    changed.replace(folder / "power")


def main() -> None:
    """Serve until killed."""
    folder = Path(sys.argv[1])
    board = Board(folder, json.loads((folder / "bmc.json").read_text()))
    (folder / "ready").touch()
    board.listen()


if __name__ == "__main__":
    main()
