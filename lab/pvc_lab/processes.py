# SPDX-License-Identifier: Apache-2.0
"""Start, find again and end processes that may outlive the program that started them.

`lab-up` starts a cluster and exits; `lab-down` is another process that must end exactly what was
started and nothing else. A bare process ID is not enough for that, since the kernel reuses them, so
a process is identified by its ID together with its start time.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pvc_lab.waiting import DeadlineExceededError

_STATE_FIELD = 0  # of what follows the command name in /proc/PID/stat; see proc(5)
_START_TIME_FIELD = 19


class Process(Protocol):
    """What the lab needs of a started process; subprocess.Popen has it, and so has HostProcess."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


Spawn = Callable[[Sequence[str], Path], Process]
"""Starts a command in the foreground with its output appended to a log file."""


def spawn(argv: Sequence[str], log_path: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `argv` as a session of its own, both output streams appended to `log_path`.

    It survives the end of this program and gets no signal from this program's terminal. `env` is
    added to this program's environment.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )


@dataclass(frozen=True)
class ProcessIdentity:
    """One process for as long as it lives, never another that got its ID later."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The identity of the process that has this ID now; ProcessLookupError if none has."""
        fields = _stat_fields(pid)
        if fields is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, int(fields[_START_TIME_FIELD]))

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; a zombie that nobody has waited for yet does not."""
        fields = _stat_fields(self.pid)
        return (
            fields is not None
            and int(fields[_START_TIME_FIELD]) == self.start_ticks
            and fields[_STATE_FIELD] not in ("Z", "X")
        )

    def send(self, signal_number: int) -> None:
        """Send a signal; nothing happens if the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.is_alive:  # asked after opening, so that the handle is of this very process
                    signal.pidfd_send_signal(handle, signal_number)
            finally:
                os.close(handle)

    def end(self, signal_number: int = signal.SIGKILL, *, deadline_s: float = 30.0) -> None:
        """Send a signal and wait until the process is gone; nothing to do if it already is.

        Works for processes that are not our children. DeadlineExceededError if it stays.
        """
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if not self.is_alive:  # asked after opening, so that the handle is of this very process
                return
            signal.pidfd_send_signal(handle, signal_number)
            ending = select.poll()
            ending.register(handle, select.POLLIN)
            ended = ending.poll(deadline_s * 1000)
        except ProcessLookupError:
            return
        finally:
            os.close(handle)
        if not ended:
            raise DeadlineExceededError(f"process {self.pid} has ended", deadline_s)


def end_process(process: Process, signal_number: int, *, deadline_s: float = 10.0) -> None:
    """Signal a process and wait for its end; one that does not obey in time is killed."""
    if process.poll() is None:
        process.send_signal(signal_number)
    try:
        process.wait(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_lines(log_path: Path, count: int = 15) -> str:
    """The end of a log file, for an error message about the process that wrote it."""
    if not log_path.exists():
        return "(no output)"
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-count:])


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command name, which may itself hold spaces."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
