# SPDX-License-Identifier: Apache-2.0
"""Find and remove what a lab has left on the machine, whatever became of the program that ran it.

Everything a lab creates carries its prefix: in the name of a namespace, a link or a folder in /run,
or in the environment of a process. So it can be found without any record of it, also after a crash.
"""

from __future__ import annotations

import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

from pvc_lab import network
from pvc_lab.host import LAB_VARIABLE
from pvc_lab.processes import ProcessIdentity

ANY_LAB = "pvclab-"
"""The beginning of every lab's prefix."""

RUNTIME_ROOT = Path("/run")


def leftovers(prefix: str = ANY_LAB) -> list[str]:
    """Everything on the machine whose name begins with `prefix`, each as a short sentence.

    Give one lab's prefix to check that one; the default finds the parts of every lab, also of those
    that are meant to be up.
    """
    return [
        *(f"namespace {name}" for name in network.namespaces_of(prefix)),
        *(f"link {name}" for name in network.links_of(prefix)),
        *(f"process {process.pid}" for process in processes_of(prefix)),
        *(f"mount {path}" for path in _mounts_of(prefix)),
        *(f"folder {path}" for path in _runtime_folders_of(prefix)),
    ]


def remove(prefix: str) -> None:
    """Remove everything that `leftovers` finds. Can be repeated; a failing step spares no other."""
    with ExitStack() as steps:  # run in reverse order
        for folder in _runtime_folders_of(prefix):
            steps.callback(shutil.rmtree, folder)
        steps.callback(network.tear_down, prefix)
        for process in processes_of(prefix):
            steps.callback(process.end, signal.SIGKILL)


def processes_of(prefix: str) -> list[ProcessIdentity]:
    """The processes that were started on a lab's hosts, or that hold such a host."""
    mark = f"{LAB_VARIABLE}={prefix}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            if any(variable.startswith(mark) for variable in environment):
                found.append(ProcessIdentity.of(int(entry.name)))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while we looked, or is none that root may look at
    return [process for process in found if process.is_alive]


def _mounts_of(prefix: str) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    mount_points = (line.split()[4] for line in lines)
    return [path for path in mount_points if prefix in path]


def _runtime_folders_of(prefix: str) -> list[Path]:
    return sorted(RUNTIME_ROOT.glob(f"{prefix}*"))
