# SPDX-License-Identifier: Apache-2.0
"""virtual_threads: threads, locks, events and the time, for a program that runs in the simulator."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import nan
from types import TracebackType

from pvc_core.errors import PluginError
from pvc_core.plugin_threads import AskedThreads, T, Ts, ask_here
from pvc_core.ports import Condition, Event, Lock, Thread
from pvc_simulator.scheduler import Process, Scheduler, Task

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
"""What the clocks of all hosts show at the beginning, unless somebody sets them."""


class VirtualClock:
    """A host's clock. Implements `pvc_core.ports.Clock`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.step_s = 0.0
        """How far its time of day is wrong; monotonic time knows nothing of that."""
        self._shown: tuple[float, str] = (nan, "")

    def monotonic_s(self) -> float:
        """Seconds since the simulation began."""
        return self._scheduler.now_s

    def utc_iso(self) -> str:
        """The time of day."""
        second = round(self._scheduler.now_s + self.step_s, 6) // 1
        if second != self._shown[0]:
            self._shown = (second, self._now().strftime("%Y-%m-%dT%H:%M:%SZ"))
        return self._shown[1]

    def utc_ms(self) -> int:
        """The same in milliseconds since 1970."""
        return int(self._now().timestamp() * 1000)

    def _now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._scheduler.now_s + self.step_s)


class VirtualThreads:
    """The threads of one simulated process. Implements `pvc_core.ports.Threads`."""

    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler = scheduler
        self._process = process

    def start(self, name: str, body: Callable[[], None]) -> Thread:
        """A task of the process."""
        return self._process.spawn(name, body)

    def lock(self) -> Lock:
        """A lock."""
        return _Lock(self._scheduler)

    def event(self) -> Event:
        """A flag that is not set."""
        return _Flag(self._scheduler)

    def condition(self) -> Condition:
        """A condition with a lock of its own, which its holder may take again."""
        return _Condition(self._scheduler)

    def plugin_threads(self, plugin: str) -> AskedThreads:
        """Where a plugin answers: on a task, under a deadline of virtual time."""
        return _PluginTasks(self._scheduler, self._process, plugin)


class _Waiters:
    """Tasks that wait for the same thing, first come, first served."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._tasks: list[Task] = []

    def wait(self, timeout_s: float | None = None) -> bool:
        task = self._scheduler.current
        self._tasks.append(task)
        try:
            return self._scheduler.wait(timeout_s)
        finally:
            if task in self._tasks:
                self._tasks.remove(task)

    def wake_one(self) -> None:
        if self._tasks:
            self._scheduler.wake(self._tasks.pop(0))

    def wake_all(self) -> None:
        while self._tasks:
            self.wake_one()


class _Lock:
    def __init__(self, scheduler: Scheduler) -> None:
        self._is_free = True
        self._waiters = _Waiters(scheduler)

    def __enter__(self) -> bool:
        while not self._is_free:
            self._waiters.wait()
        self._is_free = False
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._is_free = True
        self._waiters.wake_one()


class _Flag:
    def __init__(self, scheduler: Scheduler) -> None:
        self._waiters = _Waiters(scheduler)
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._waiters.wake_all()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout_s: float | None = None, /) -> bool:
        if not self._is_set:
            return self._waiters.wait(timeout_s) or self._is_set
        return True


class _Condition:
    """Tasks give way only where they wait, so the lock is held across a wait for something else only."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._holder: Task | None = None
        self._depth = 0
        self._outside = _Waiters(scheduler)
        self._waiting = _Waiters(scheduler)

    def __enter__(self) -> bool:
        self._take(1)
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._give(1)

    def _take(self, depth: int) -> None:
        me = self._scheduler.running
        while self._depth and self._holder is not me:
            self._outside.wait()
        self._holder = me
        self._depth += depth

    def _give(self, depth: int) -> None:
        self._depth -= depth
        if not self._depth:
            self._holder = None
            self._outside.wake_one()

    def wait(self, timeout_s: float | None = None, /) -> bool:
        depth = self._depth
        self._give(depth)
        try:
            return self._waiting.wait(timeout_s)
        finally:
            self._retake(depth)

    def _retake(self, depth: int) -> None:
        """Also for a task that is being killed, which must not wait: its process is dead, nobody else has the lock."""
        if self._scheduler.current.process.is_dead:
            self._holder, self._depth = self._scheduler.current, depth
        else:
            self._take(depth)

    def wait_for(self, predicate: Callable[[], object], timeout_s: float | None = None, /) -> object:
        ends_s = None if timeout_s is None else self._scheduler.now_s + timeout_s
        while not (answer := predicate()):
            left_s = None if ends_s is None else ends_s - self._scheduler.now_s
            if left_s is not None and left_s <= 0:
                break
            self.wait(left_s)
        return answer

    def notify_all(self) -> None:
        self._waiting.wake_all()


class _PluginTasks:
    """As `pvc_core.plugin_threads.PluginThreads`: one task per question, given up when its time is over."""

    def __init__(self, scheduler: Scheduler, process: Process, plugin: str) -> None:
        self._scheduler = scheduler
        self._process = process
        self._plugin = plugin
        self._hanging: set[Task] = set()

    @property
    def hanging(self) -> int:
        return len(self._hanging)

    def ask(self, deadline_s: float, question: Callable[[*Ts], T], *args: *Ts) -> T:
        answers: list[T | PluginError] = []

        def answer() -> None:
            try:
                answers.append(ask_here(self._plugin, question, *args))
            except PluginError as failure:
                answers.append(failure)
            self._hanging.discard(task)

        task = self._process.spawn(f"plugin-{self._plugin}", answer)
        task.join(deadline_s)
        if not answers:
            self._hanging.add(task)
            raise PluginError(self._plugin, f"has not answered within {deadline_s:g} s")
        (given,) = answers
        if isinstance(given, PluginError):
            raise given from given.__cause__
        return given
