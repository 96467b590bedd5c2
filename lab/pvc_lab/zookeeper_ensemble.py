# SPDX-License-Identifier: Apache-2.0
"""Run ZooKeeper servers that replicate each other, so that the loss of a minority is survived.

Without addresses they share loopback on free ports; a lab gives each a machine of its own, so that
a member can lose its power or its cable.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pvc_lab import processes
from pvc_lab.free_ports import free_port
from pvc_lab.processes import Spawn
from pvc_lab.starting import Startable
from pvc_lab.waiting import wait_for
from pvc_lab.zookeeper import CLIENT_PORT, Member, ZooKeeperServer

QUORUM_PORT = 2281
ELECTION_PORT = 2381


class ZooKeeperEnsemble(Startable):
    """One server per entry of `hosts`.

    `spawns`, where given, has one way to start a process per member (each on its own lab host).
    """

    def __init__(
        self,
        data_dir: Path,
        hosts: Sequence[str] = ("127.0.0.1",) * 3,
        spawns: Sequence[Spawn] = (),
    ) -> None:
        on_one_machine = len(set(hosts)) < len(hosts)
        self.members = tuple(
            Member(number, host, free_port(host), free_port(host), free_port(host))
            if on_one_machine
            else Member(number, host, CLIENT_PORT, QUORUM_PORT, ELECTION_PORT)
            for number, host in enumerate(hosts, start=1)
        )
        self.servers = tuple(
            ZooKeeperServer(
                data_dir / f"server-{member.server_id}",
                member.host,
                member.client_port,
                spawns[member.server_id - 1] if spawns else processes.spawn,
                ensemble=self.members,
                server_id=member.server_id,
            )
            for member in self.members
        )

    @property
    def hosts(self) -> str:
        """All members, comma-separated, as a ZooKeeper client expects them."""
        return ",".join(server.hosts for server in self.servers)

    def start(self, *, deadline_s: float = 60.0) -> None:
        """Start all members and return once every one of them serves clients."""
        self.launch()
        self.wait_until_serving(deadline_s=deadline_s)

    def launch(self) -> None:
        """Start all members and return at once."""
        for server in self.servers:
            server.launch()

    def wait_until_serving(self, *, deadline_s: float = 60.0) -> None:
        for server in self.servers:
            server.wait_until_serving(deadline_s=deadline_s)

    def stop(self) -> None:
        """End all members in order (SIGTERM)."""
        with ExitStack() as every_server:  # one that cannot be stopped does not spare the others
            for server in self.servers:
                every_server.callback(server.stop)

    def kill(self) -> None:
        """End all members at once (SIGKILL)."""
        with ExitStack() as every_server:
            for server in self.servers:
                every_server.callback(server.kill)

    def restart(self, *, deadline_s: float = 60.0) -> None:
        """Stop and start all members on the same data and ports."""
        self.stop()
        self.start(deadline_s=deadline_s)

    def leader(self, *, deadline_s: float = 30.0) -> ZooKeeperServer:
        """The member that leads now; waits for an election that is under way."""

        def leading() -> ZooKeeperServer | None:
            return next((server for server in self.servers if server.mode() == "leader"), None)

        return wait_for(leading, f"{self.hosts} has a leader", deadline_s=deadline_s)
