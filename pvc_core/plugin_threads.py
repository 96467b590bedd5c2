# SPDX-License-Identifier: Apache-2.0
"""plugin_threads: foreign code runs on threads of its own, and whoever waits for it waits for a bounded time.

Python cannot end a thread. One that has not answered in time is abandoned: it may go on, and nobody listens. All are
daemon threads, which the end of the process does not wait for; those of `concurrent.futures` it would join, and a
plugin in an endless loop would keep a daemon that was told to stop from ending.

A thread that has answered waits for the next question, so that asking costs a hand-over and not a new thread.
"""

from __future__ import annotations

import os.path
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar, TypeVarTuple

from pvc_core.errors import PluginError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

IDLE_S = 60.0
"""A thread that nobody needed for this long ends."""
IDLE_THREADS = 4
"""How many wait at most for the next question."""


class AskedThreads(Protocol):
    """Where one plugin answers: `PluginThreads`, or what stands for it on a simulator's clock."""

    @property
    def hanging(self) -> int:
        """Calls that were given up and have not come back."""

    def ask(self, deadline_s: float, question: Callable[[*Ts], T], *args: *Ts) -> T:
        """The answer. Raises `PluginError`: as `ask_here`, and when the deadline has passed."""


class _Question:
    """One call. Whoever pops `unclaimed`, the answering thread or the waiting one, has decided what becomes of it."""

    __slots__ = ("answer", "args", "function", "unclaimed")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function = function
        self.args = args
        self.answer: SimpleQueue[tuple[Any, PluginError | None]] = SimpleQueue()
        self.unclaimed: list[None] = [None]

    def claim(self) -> bool:
        """Whether this side was first. Atomic: two pops of one element."""
        try:
            self.unclaimed.pop()
        except IndexError:
            return False
        return True


class PluginThreads:
    """The threads of one plugin. Thread-safe; several questions may be under way at once."""

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin
        self._idle: deque[_Worker] = deque()
        self._hanging: set[_Worker] = set()

    @property
    def hanging(self) -> int:
        """Calls that were given up and have not come back."""
        return len(self._hanging)

    def ask(self, deadline_s: float, question: Callable[[*Ts], T], *args: *Ts) -> T:
        """The answer. Raises `PluginError`: as `ask_here`, and when the deadline has passed."""
        asked = _Question(question, args)
        worker = self._worker()
        worker.questions.put(asked)
        try:
            answer, failure = asked.answer.get(timeout=deadline_s)
        except Empty:
            answer, failure = self._give_up(worker, asked, deadline_s)
        except BaseException:  # this thread was interrupted, not the plugin's
            self._give_up(worker, asked, deadline_s)
            raise
        if failure is not None:
            raise failure from failure.__cause__
        return answer  # type: ignore[no-any-return]

    def _give_up(self, worker: _Worker, asked: _Question, deadline_s: float) -> tuple[Any, PluginError | None]:
        """Listen no more; unless the answer comes at this very moment."""
        whereabouts = _whereabouts(worker.thread)
        self._hanging.add(worker)  # before the claim: the worker takes itself out after losing it
        if asked.claim():
            return None, PluginError(self._plugin, f"has not answered within {deadline_s:g} s{whereabouts}")
        self._hanging.discard(worker)
        return asked.answer.get()

    def _worker(self) -> _Worker:
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return _Worker(self._plugin, self._idle, self._hanging)
        except RuntimeError as error:
            raise PluginError(self._plugin, f"there is no thread to ask it on: {error}") from error


class _Worker:
    """A thread that answers one question after the other."""

    def __init__(self, plugin: str, idle: deque[_Worker], hanging: set[_Worker]) -> None:
        self._plugin = plugin
        self._idle = idle
        self._hanging = hanging
        self.questions: SimpleQueue[_Question] = SimpleQueue()
        self.thread = threading.Thread(target=self._run, name=f"plugin-{plugin}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while (asked := self._next()) is not None:
            outcome = self._outcome(asked)
            if not asked.claim():
                self._hanging.discard(self)
                return
            goes_on = len(self._idle) < IDLE_THREADS
            if goes_on:
                self._idle.append(self)  # before the answer, so that who gets it finds this thread for the next one
            asked.answer.put(outcome)
            del asked, outcome  # what a plugin was given is not kept while nobody asks it
            if not goes_on:
                return

    def _next(self) -> _Question | None:
        """None when nobody needed this thread for long."""
        while True:
            try:
                return self.questions.get(timeout=IDLE_S)
            except Empty:
                try:
                    self._idle.remove(self)
                except ValueError:
                    continue  # somebody has just taken it: a question is on its way
                return None

    def _outcome(self, asked: _Question) -> tuple[Any, PluginError | None]:
        try:
            return ask_here(self._plugin, asked.function, *asked.args), None
        except PluginError as failure:
            return None, failure
        except KeyboardInterrupt:  # raised by the plugin itself: a person's arrives on the main thread
            return None, PluginError(self._plugin, "KeyboardInterrupt")


def ask_here(plugin: str, question: Callable[[*Ts], T], *args: *Ts) -> T:
    """The plugin's answer, on this thread. Raises `PluginError` naming it, with what it raised as the cause.

    A `PluginError` about this very plugin, from a check of its answer, passes as it is.
    """
    try:
        return question(*args)
    except KeyboardInterrupt:
        raise
    except PluginError as error:
        if error.plugin == plugin:
            raise
        raise PluginError(plugin, f"PluginError: {error}") from error
    except BaseException as error:
        raise PluginError(plugin, traceback.format_exception_only(error)[-1].strip()) from error


def _whereabouts(thread: threading.Thread) -> str:
    """Where a thread is right now, for the person who has to find out why it hangs."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return ""
    return f" (it is in {frame.f_code.co_name}, {os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno})"
