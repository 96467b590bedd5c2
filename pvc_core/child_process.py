# SPDX-License-Identifier: Apache-2.0
"""child_process: an executable answers within its deadline and to the end, or everything it started is ended.

Whatever a child does (never reads its input, writes without end, closes its output and lives on, leaves children
behind, ignores signals) this process waits no longer than the deadline, keeps a bounded part of what it wrote, and is
left with no process and no descriptor of it. The child leads a process group of its own; what stays in that group is
killed in every case. The group is killed before its leader is reaped: until then nobody else can get its number.

In the core because plugins that run executables (selectors, fence agents) cannot import one another.
"""

from __future__ import annotations

import os
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

MAX_ANSWER_BYTES = 1024 * 1024
MAX_COMPLAINT_BYTES = 4096
"""What is kept of standard error; the rest is read and forgotten, so that the child can go on."""
KILLED_WITHIN_S = 1.0
"""A killed process that is not gone by then hangs in the kernel, and nobody can wait for that."""
CHUNK_BYTES = 65536
FIRST_LOOK_S, LONGEST_LOOK_S = 0.001, 0.02


class CommandFailed(Exception):
    """Why there is no answer; continues the sentence "rank ..."."""


@dataclass(frozen=True)
class Ended:
    """A command that came to its end in time. status: its exit status, or minus the signal that ended it."""

    status: int
    answer: bytes = field(repr=False)
    complaint: str = field(repr=False)
    """What it wrote to standard error, on one line."""

    @property
    def how(self) -> str:
        """`status 3` or `signal SIGSEGV`."""
        return _status(self.status)


def answer_of(command: Sequence[str], question: bytes, deadline_s: float, environment: Mapping[str, str]) -> bytes:
    """What the command writes to standard output when it is given the question on standard input.

    As `run`, and raises `CommandFailed` also when the command ends with another status than 0.
    """
    ended = run(command, question, deadline_s, environment)
    if ended.status != 0:
        raise CommandFailed(f"ended with {ended.how}{_as_end(ended.complaint)}")
    return ended.answer


def run(command: Sequence[str], question: bytes, deadline_s: float, environment: Mapping[str, str]) -> Ended:
    """Run a command to its end with the question on standard input.

    deadline_s: for all of it, from the start to its end. No shell, no other variables than `environment`, no
    descriptors but the three. Raises `CommandFailed` when it cannot be run safely, says too much or does not end.
    """
    end_s = time.monotonic() + deadline_s
    refuse_unsafe(command[0])
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=dict(environment),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise CommandFailed(f"cannot be run: {error}") from error
    exchange = _Exchange(child, question)
    try:
        in_time = exchange.until(end_s) and _has_ended(child, end_s)
    finally:
        exchange.close()
        _end(child)
    complaint = _as_end(exchange.complaint)
    if exchange.is_too_long:
        raise CommandFailed(f"answered with more than {MAX_ANSWER_BYTES} bytes{complaint}")
    if not in_time:
        raise CommandFailed(f"has not ended within {deadline_s:g} s{complaint}")
    return Ended(child.returncode, bytes(exchange.answer), exchange.complaint)


def refuse_unsafe(path: str) -> None:
    """An executable that anybody could replace would run with the rights of PVC. Raises `CommandFailed`."""
    try:
        real = os.path.realpath(path, strict=True)
        found = os.stat(real)
    except OSError as error:
        raise CommandFailed(f"cannot be run: {error}") from error
    if not stat.S_ISREG(found.st_mode) or not os.access(real, os.X_OK):
        raise CommandFailed(f"cannot be run: {path} is no executable file")
    if found.st_uid not in (0, os.geteuid()):
        raise CommandFailed(f"is not run: {real} belongs to another user than root or the one that runs PVC")
    if found.st_mode & stat.S_IWOTH:
        raise CommandFailed(f"is not run: anybody may write to {real}")
    for folder in {*Path(path).parents, *Path(real).parents}:
        mode = os.stat(folder).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise CommandFailed(f"is not run: anybody may replace it, {folder} is writable by everybody")


class _Exchange:
    """The conversation with a child over its three pipes."""

    def __init__(self, child: subprocess.Popen[bytes], question: bytes) -> None:
        assert child.stdin
        assert child.stdout
        assert child.stderr
        self._input, self._output, self._errors = child.stdin, child.stdout, child.stderr
        self._unsent = memoryview(question)
        self._complaint = bytearray()
        self.answer = bytearray()

    @property
    def is_too_long(self) -> bool:
        return len(self.answer) > MAX_ANSWER_BYTES

    @property
    def complaint(self) -> str:
        """What it wrote to standard error, on one line."""
        return " ".join(self._complaint.decode(errors="replace").split())

    def until(self, end_s: float) -> bool:
        """Talk until the child has closed what it writes to; False when it has not by then, or says too much."""
        with selectors.DefaultSelector() as waiting:
            for pipe, event in (
                (self._input, selectors.EVENT_WRITE),
                (self._output, selectors.EVENT_READ),
                (self._errors, selectors.EVENT_READ),
            ):
                os.set_blocking(pipe.fileno(), False)
                waiting.register(pipe, event)
            open_to_read = 2
            while open_to_read:
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    return False
                for key, _ in waiting.select(left_s):
                    if key.fileobj is self._input:
                        if not self._send():
                            waiting.unregister(self._input)
                            self._input.close()
                    elif not self._receive(self.answer if key.fileobj is self._output else self._complaint, key.fd):
                        waiting.unregister(key.fileobj)
                        open_to_read -= 1
                if self.is_too_long:
                    return False
        return True

    def _send(self) -> bool:
        """Send what the pipe takes; False when there is nothing more to send, or nobody who reads."""
        try:
            self._unsent = self._unsent[os.write(self._input.fileno(), self._unsent[:CHUNK_BYTES]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False  # it may answer without having read the question
        return bool(self._unsent)

    def _receive(self, into: bytearray, descriptor: int) -> bool:
        """Take what is there; False at the end."""
        try:
            chunk = os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return True
        if into is self._complaint:
            into += chunk[: MAX_COMPLAINT_BYTES - len(into)]
        else:
            into += chunk
        return bool(chunk)

    def close(self) -> None:
        """Close the pipes. Nothing is buffered, so nothing is written."""
        for pipe in (self._input, self._output, self._errors):
            pipe.close()


def _has_ended(child: subprocess.Popen[bytes], end_s: float) -> bool:
    """Whether the child ends in time, without reaping it."""
    pause_s = FIRST_LOOK_S
    while not _is_over(child):
        if time.monotonic() + pause_s > end_s:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_LOOK_S)
    return True


def _is_over(child: subprocess.Popen[bytes]) -> bool:
    try:
        return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True  # this process has its children reaped by the kernel


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the child's group, and reap the child."""
    with suppress(ProcessLookupError, PermissionError):  # nobody is left, or only what has become another user's
        os.killpg(child.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # subprocess itself reaps it later
        child.wait(KILLED_WITHIN_S)


def _as_end(complaint: str) -> str:
    return f": {complaint}" if complaint else ""


def _status(code: int) -> str:
    if code >= 0:
        return f"status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
