# SPDX-License-Identifier: Apache-2.0
"""What the tour needs of a cluster, so that the same tour runs on embedded and on real parts."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

NODES = ("hv1", "hv2", "hv3")
STARTUP_DEADLINE_S = 60.0


@dataclass(frozen=True)
class ConsoleMark:
    """How far a guest's console has counted, and in which of its boots."""

    boot_id: str
    ticks: int


class TourCluster(Protocol):
    """A running cluster of the nodes `NODES` with its API."""

    kind: str
    """For people: what the parts are."""

    @property
    def environment(self) -> Mapping[str, str]:
        """With it the `pvc` command reaches the cluster's API as an administrator."""

    def definition(self, name: str, *, stubborn: bool = False) -> str:
        """Libvirt XML of a small guest; a stubborn one ignores ACPI."""

    def console(self, name: str) -> ConsoleMark:
        """Where the guest's console is now."""

    def active_on(self, name: str) -> tuple[str, ...]:
        """The nodes whose hypervisors run the guest now, asked past PVC."""

    def two_nodes(self) -> Sequence[str]:
        """A sentence for every guest that was ever seen running on two nodes at once."""


def program(name: str) -> str:
    """A console script of this Python's environment."""
    return str(Path(sys.executable).with_name(name))


def pvc(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    together: bool = False,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the real command, in `folder`. `together`: its standard error stands among its output, as on a terminal."""
    return subprocess.run(
        [program("pvc"), *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,  # not capture_output: that would keep the two apart
        stderr=subprocess.STDOUT if together else subprocess.PIPE,
        text=True,
        check=False,
        timeout=300,
    )


def make_admin_token(configuration: Path) -> str:
    """The first token, made as on any cluster node: in process, with the store that the configuration names."""
    environment = {"PVC_CONFIG": str(configuration), "PVC_API_URL": "", "XDG_CONFIG_HOME": str(configuration.parent)}
    name = f"tour-{secrets.token_hex(3)}"
    result = pvc(["token", "create", name, "--role", "admin", "-o", "json"], environment)
    if result.returncode != 0:
        raise RuntimeError(f"no token could be made: {result.stderr.strip() or result.stdout.strip()}")
    import json

    return str(json.loads(result.stdout)["secret"])
