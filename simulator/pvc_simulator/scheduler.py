# SPDX-License-Identifier: Apache-2.0
"""scheduler: whose turn it is: tasks that run one at a time, on a clock that jumps to when there is something to do.

A task is a greenlet: ordinary blocking code, such as the daemon's, that gives way only where it waits. So a run is
determined by its inputs, takes as long as the code in it computes, and can be repeated exactly. Tasks belong to a
process, which is killed, or stopped and continued, as one.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

from greenlet import GreenletExit, getcurrent, greenlet

Body = Callable[[], None]

MOST_TURNS_AT_ONCE = 200_000
"""So many turns without the clock moving are an endless loop."""


class Killed(GreenletExit):
    """Raised in every task of a process that is killed, where it waits: it unwinds, and nothing of it goes on."""


class SimulationStuck(Exception):
    """The simulated programs go round in circles without time passing."""


class Process:
    """Tasks that live, stop and die together: a daemon, or a host's hypervisor."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.is_stopped = False
        self._scheduler = scheduler
        self._tasks: dict[Task, None] = {}
        self._held_back: list[Task] = []
        scheduler.processes[self] = None

    def spawn(self, name: str, body: Body) -> Task:
        """Run it as a task of this process, from the next turn on."""
        task = Task(self._scheduler, self, name, body)
        if self.is_dead:
            task.is_over = True
            return task
        self._tasks[task] = None
        self._scheduler.ready(task)
        return task

    def kill(self) -> None:
        """End all tasks where they are; they get no further turn but to unwind."""
        self.is_dead = True
        self._scheduler.processes.pop(self, None)
        tasks = list(self._tasks)
        self._tasks.clear()
        self._held_back.clear()
        for task in tasks:
            self._scheduler.end(task)

    def stop(self) -> None:
        """Give its tasks no turn any more (SIGSTOP)."""
        self.is_stopped = True

    def go_on(self) -> None:
        """Give them the turns that are due (SIGCONT)."""
        self.is_stopped = False
        held, self._held_back = self._held_back, []
        for task in held:
            self._scheduler.ready(task)

    def hold_back(self, task: Task) -> None:
        """A turn that is due while the process is stopped."""
        self._held_back.append(task)

    def ended(self, task: Task) -> None:
        """The task's body has returned."""
        self._tasks.pop(task, None)


class Task:
    """One thread of a simulated program. Implements `pvc_core.ports.Thread`."""

    def __init__(self, scheduler: Scheduler, process: Process, name: str, body: Body) -> None:
        self.process = process
        self.name = name
        self.is_over = False
        self.ticket = 0
        """Grows with every wait, so that a timer set for an earlier one wakes nobody."""
        self.is_waiting = False
        self.was_woken = False
        self.greenlet = greenlet(self._run, parent=scheduler.hub)
        self._scheduler = scheduler
        self._body = body
        self._joining: list[Task] = []

    def _run(self) -> None:
        try:
            self._body()
        except GreenletExit:
            pass
        except Exception as error:  # noqa: BLE001  # handed to whoever runs the simulation
            self._scheduler.broke(self, error)
        finally:
            self.is_over = True
            self.process.ended(self)
            for task in self._joining:
                self._scheduler.wake(task)

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self.is_over

    def join(self, timeout_s: float | None = None, /) -> None:
        """Wait until it has ended, at most so long. At once on the task itself."""
        me = self._scheduler.current
        if self.is_over or me is self:
            return
        self._joining.append(me)
        self._scheduler.wait(timeout_s)
        self._joining = [task for task in self._joining if task is not me]


class Scheduler:
    """The clock, and who is to run when."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.hub = getcurrent()
        self.failures: list[tuple[str, Exception]] = []
        """Tasks that ended with an exception: a thread of the daemon that died."""
        self.turns = 0
        self.processes: dict[Process, None] = {}
        self._current: Task | None = None
        self._ready: deque[Task] = deque()
        self._timers: list[tuple[float, int, Task | None, int, Body | None]] = []
        self._numbers = count()

    # ------------------------------------------------------------------------------- called by tasks

    @property
    def current(self) -> Task:
        """The task whose turn it is."""
        if self._current is None:
            raise RuntimeError("only a task can wait")
        return self._current

    @property
    def running(self) -> Task | None:
        """The same, or None between turns: on no task nothing can be waited for."""
        return self._current

    @property
    def next_due_s(self) -> float | None:
        """When the clock has something to do next, None: never, unless somebody comes and asks."""
        return self._timers[0][0] if self._timers else None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Give way until this task is woken, or so much time has passed. Whether it was woken."""
        task = self.current
        if task.process.is_dead:
            raise Killed
        task.ticket += 1
        task.is_waiting, task.was_woken = True, False
        if timeout_s is not None:
            self._push(self.now_s + max(0.0, timeout_s), task, None)
        self._current = None
        self.hub.switch()
        return task.was_woken

    def sleep(self, duration_s: float) -> None:
        """Give way for so long."""
        ends_s = self.now_s + duration_s
        self.wait(duration_s)
        while self.now_s < ends_s:
            self.wait(ends_s - self.now_s)

    # ------------------------------------------------------------------------------- called by anybody

    def wake(self, task: Task) -> None:
        """Let a waiting task go on; one whose time is up at this very moment learns that it was woken, too."""
        task.was_woken = True
        self._make_ready(task)

    def at(self, due_s: float, action: Body) -> None:
        """Do something then, or now if that has passed; on no task, so it must not wait."""
        self._push(max(due_s, self.now_s), None, action)

    def after(self, delay_s: float, action: Body) -> None:
        """The same, so much later."""
        self.at(self.now_s + delay_s, action)

    def ready(self, task: Task) -> None:
        """Give it a turn after those that are due already."""
        self._ready.append(task)

    def _make_ready(self, task: Task) -> None:
        if task.is_waiting and not task.is_over:
            task.is_waiting = False
            self.ready(task)

    def broke(self, task: Task, error: Exception) -> None:
        """A task ended with an exception."""
        self.failures.append((f"{task.process.name}: {task.name}", error))

    def end(self, task: Task) -> None:
        """Unwind a task of a process that has been killed. Not on a task: see `at`."""
        if self._current is not None:
            raise RuntimeError(f"{self._current.name} cannot kill: it may be what is killed")
        if task.greenlet:
            self._current = task
            task.greenlet.throw(Killed)
            self._current = None
        task.is_over = True  # also if it never had a turn

    # ------------------------------------------------------------------------------- the run

    def run_until(self, end_s: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen until then, or until `is_over`, which is asked whenever the clock moves."""
        turns = 0
        while True:
            while self._ready:
                turns += 1
                if turns > MOST_TURNS_AT_ONCE:
                    raise SimulationStuck(f"at {self.now_s:.3f} s, last {self._ready[0].process.name}")
                self._turn(self._ready.popleft())
            if is_over() or not self._timers or self._timers[0][0] > end_s:
                break
            due_s, _, task, ticket, action = heapq.heappop(self._timers)
            if due_s > self.now_s:
                self.now_s, turns = due_s, 0
            if action is not None:
                action()
            elif task is not None and task.ticket == ticket:
                self._make_ready(task)
        if not is_over():
            self.now_s = max(self.now_s, end_s)

    def close(self) -> None:
        """End what still runs.

        Without it, the tasks would be unwound whenever their memory is freed, in the middle of something else.
        """
        for process in list(self.processes):
            process.kill()
        self._ready.clear()
        self._timers.clear()

    def _turn(self, task: Task) -> None:
        if task.is_over or task.process.is_dead:
            return
        if task.process.is_stopped:
            task.process.hold_back(task)
            return
        self.turns += 1
        self._current = task
        task.greenlet.switch()
        self._current = None

    def _push(self, due_s: float, task: Task | None, action: Body | None) -> None:
        ticket = task.ticket if task is not None else 0
        heapq.heappush(self._timers, (due_s, next(self._numbers), task, ticket, action))
