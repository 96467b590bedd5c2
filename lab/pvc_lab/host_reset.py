# SPDX-License-Identifier: Apache-2.0
"""host_reset: the command by which the watchdog of a lab host resets it: everything on it is gone at once.

`reboot(2)` inside a PID namespace ends that namespace's first process, and the kernel every other one with it. On the
machine under the lab it would reset that machine, so it is made sure first where this runs.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from pvc_lab import host_init

RESTART = 0x01234567
"""LINUX_REBOOT_CMD_RESTART."""


def why_not(first_process: bytes) -> str:
    """Why this machine must not be reset, by the command line of its first process; "" if it is a lab's host."""
    words = first_process.split(b"\0")
    is_lab_host = os.fsencode(host_init.__file__) in words
    return "" if is_lab_host else f"this is no lab host: its first process is {os.fsdecode(words[0])}"


def main() -> None:
    """Reset this host. Exits with a sentence if this is none of a lab's."""
    problem = why_not(Path("/proc/1/cmdline").read_bytes())
    if problem:
        sys.exit(problem)
    ctypes.CDLL(None).reboot(RESTART)


if __name__ == "__main__":
    main()
