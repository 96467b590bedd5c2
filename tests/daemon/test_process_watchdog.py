# SPDX-License-Identifier: Apache-2.0
"""The watchdog for labs and tests, as real processes: one is the daemon, one the host, and a third watches."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid

import pytest

from pvc_core.errors import WatchdogError
from pvc_core.ports import Watchdog
from pvc_core.testing.watchdog_suite import WatchdogSuite

SLACK_S = 10.0
"""What a busy machine may take to start the command."""

DAEMON = """
import sys
from pvc_core.errors import WatchdogError
from pvc_daemon.process_watchdog import ProcessWatchdog

watchdog = ProcessWatchdog(sys.argv[1], sys.argv[2:])
print("ready", flush=True)
for line in sys.stdin:
    try:
        match line.split():
            case ["arm", seconds]:
                print(watchdog.arm(float(seconds)), flush=True)
            case ["feed"]:
                print(watchdog.feed(), flush=True)
            case ["disarm"]:
                print(watchdog.disarm(), flush=True)
    except WatchdogError as error:
        print("!", error.problem, flush=True)
"""


class Daemon:
    """A process that has the driver; commands go to it."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DAEMON, name, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def arm(self, timeout_s: float) -> float:
        return float(self._told(f"arm {timeout_s}"))

    def feed(self) -> None:
        self._told("feed")

    def disarm(self) -> None:
        self._told("disarm")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _told(self, line: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if answer.startswith("!"):
            raise WatchdogError(answer[1:].strip())
        return answer


class Bench:
    """The host is a process that does nothing."""

    timeout_s = 1.0

    def __init__(self) -> None:
        self.host = subprocess.Popen(["sleep", "infinity"])
        self._name = str(uuid.uuid4())
        self._daemons: list[Daemon] = []

    def watchdog(self) -> Daemon:
        self._daemons.append(Daemon(self._name, ["kill", "-KILL", str(self.host.pid)]))
        return self._daemons[-1]

    def kill(self, watchdog: Watchdog) -> None:
        assert isinstance(watchdog, Daemon)
        watchdog.end()

    def lives_for(self, seconds: float) -> bool:
        return not self._is_off_in(seconds)

    def ends_within(self, seconds: float) -> bool:
        return self._is_off_in(seconds + SLACK_S)

    def _is_off_in(self, seconds: float) -> bool:
        try:
            self.host.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        for daemon in self._daemons:
            daemon.end()
        self.host.kill()
        self.host.wait()


class TestProcessWatchdog(WatchdogSuite):
    def bench(self) -> Bench:
        return Bench()

    def test_a_daemon_that_is_stopped_is_ended_with_its_host(self) -> None:
        with self.host() as host:
            daemon = host.watchdog()
            assert isinstance(daemon, Daemon)
            told_s = daemon.arm(host.timeout_s)
            daemon.process.send_signal(signal.SIGSTOP)
            assert host.ends_within(told_s)
            assert daemon.process.wait(SLACK_S) == -signal.SIGKILL

    def test_a_watchdog_that_has_fired_does_not_take_food(self) -> None:
        with self.host() as host:
            daemon = host.watchdog()
            other = host.watchdog()
            daemon.arm(4 * host.timeout_s)
            other.arm(host.timeout_s)
            assert host.ends_within(host.timeout_s)
            with pytest.raises(WatchdogError, match="cannot be reached"):
                daemon.feed()
