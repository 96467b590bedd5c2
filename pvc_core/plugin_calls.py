# SPDX-License-Identifier: Apache-2.0
"""plugin_calls: the one place where foreign code is called, so that whatever it does becomes a `PluginError`.

A plugin may raise anything, `SystemExit` included, or hang; none of it may end a placement, a recovery or a daemon.
A third party's plugin answers on a thread under a deadline (`plugin_threads`) and is left out for a while after three
failures in a row (`plugin_circuits`). PVC's own plugins are called directly: they come from the same hands as the
caller, and a placement asks ten of them. What cannot be contained is in docs/adr/0008-plugin-isolation.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from textwrap import shorten
from typing import TypeVar, TypeVarTuple

import structlog

from pvc_core.errors import PluginError, PluginLeftOut
from pvc_core.plugin_circuits import CLOSED, DEFAULT_RULES, CircuitRules
from pvc_core.plugin_threads import AskedThreads, PluginThreads, ask_here
from pvc_core.plugin_troubles import PluginTrouble
from pvc_core.ports import Clock
from pvc_core.system_clock import SystemClock

log = structlog.get_logger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How long PVC waits for third parties' plugins, and how often.

    answer_s: for a score, a filter's verdict, a veto, a notification. open_s: for a driver to be built. load_s: for a
    plugin to be imported, and for each of its registration hooks. hanging: with so many calls given up that have not
    come back, no further one is made. insisted: the same for calls that are made past the circuit.
    """

    answer_s: float = 2.0
    open_s: float = 30.0
    load_s: float = 30.0
    hanging: int = 3
    insisted: int = 64
    circuit: CircuitRules = DEFAULT_RULES


DEFAULT_LIMITS = CallLimits()
ERROR_LENGTH = 300
"""Of a plugin's last error in a node's report, which is written every few seconds."""


class PluginHealth(PluginTrouble, frozen=True, kw_only=True):
    """How one plugin has done in this process.

    calls: 0 for PVC's own plugins, whose calls are not counted. last_error_at is wall-clock time, for people;
    last_error_age_s by this process's clock. retry_in_s: until it is asked again, while its circuit is open.
    """

    calls: int = 0
    last_error_age_s: float = 0.0
    retry_in_s: float = 0.0

    @property
    def trouble(self) -> PluginTrouble:
        """What of it a node publishes: without what changes all the time, and shortened."""
        names = PluginTrouble.__struct_fields__
        found = {name: getattr(self, name) for name in names}
        return PluginTrouble(**{**found, "last_error": shorten(self.last_error, ERROR_LENGTH, placeholder=" ...")})


class PluginCalls:
    """How the plugins of one process are called. One per process, owned by the registry. Thread-safe.

    own: the plugins of PVC itself, which are called directly. clock: for the circuits' pauses; how long an answer may
    take is measured in real time, since it is a real thread that is waited for.
    """

    def __init__(
        self,
        own: Collection[str] = (),
        clock: Clock | None = None,
        limits: CallLimits = DEFAULT_LIMITS,
        threads_of: Callable[[str], AskedThreads] = PluginThreads,
    ) -> None:
        self.limits = limits
        self._threads_of = threads_of
        self._own = frozenset(own)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._tracks: dict[str, _Track] = {}

    def ask(self, plugin: str, question: Callable[[*Ts], T], *args: *Ts, deadline_s: float | None = None) -> T:
        """The plugin's answer within the deadline (None: `limits.answer_s`; PVC's own plugins have none).

        Raises `PluginError` with what the plugin raised as the cause, when the deadline has passed, or at once while
        the plugin is left out.
        """
        if plugin in self._own:
            try:
                return ask_here(plugin, question, *args)
            except PluginError as failure:
                self._track(plugin).note(failure, is_strike=False)
                raise
        track = self._track(plugin)
        track.enter()
        return track.answer(self.limits.answer_s if deadline_s is None else deadline_s, question, *args)

    def insist(self, plugin: str, question: Callable[[*Ts], T], *args: *Ts, deadline_s: float) -> T:
        """As `ask`, for what must be tried whatever happened before, such as fencing: also past an open circuit.

        PVC's own plugins, too, answer under the deadline.
        """
        track = self._track(plugin)
        track.enter_anyway()
        return track.answer(deadline_s, question, *args)

    def load(self, plugin: str, question: Callable[[*Ts], T], *args: *Ts) -> T:
        """A part of loading a plugin, within `limits.load_s`; it concerns no circuit. Raises `PluginError`."""
        if plugin in self._own:
            return ask_here(plugin, question, *args)
        return self._track(plugin).threads.ask(self.limits.load_s, question, *args)

    def health(self) -> Mapping[str, PluginHealth]:
        """Every plugin that has been called, but PVC's own only where one has failed; by name."""
        with self._lock:
            tracks = sorted(self._tracks.items())
        return {plugin: track.health() for plugin, track in tracks}

    def troubles(self) -> dict[str, PluginTrouble]:
        """Of the plugins that have failed, what a node publishes."""
        with self._lock:
            tracks = sorted((plugin, track) for plugin, track in self._tracks.items() if track.has_failed)
        return {plugin: track.health().trouble for plugin, track in tracks}

    def _track(self, plugin: str) -> _Track:
        track = self._tracks.get(plugin)
        if track is None:
            with self._lock:
                fresh = _Track(plugin, self._clock, self.limits, self._threads_of(plugin))
                track = self._tracks.setdefault(plugin, fresh)
        return track


class DirectCalls(PluginCalls):
    """Every plugin is called directly, whoever it comes from: for tools and tests that bring their own drivers."""

    def ask(self, plugin: str, question: Callable[[*Ts], T], *args: *Ts, deadline_s: float | None = None) -> T:
        """The plugin's answer, however long it takes. Raises `PluginError` with what it raised as the cause."""
        return ask_here(plugin, question, *args)

    def load(self, plugin: str, question: Callable[[*Ts], T], *args: *Ts) -> T:
        """As `ask`."""
        return ask_here(plugin, question, *args)


class _Track:
    """One plugin's record: its threads, its circuit, and what it last did wrong."""

    def __init__(self, plugin: str, clock: Clock, limits: CallLimits, threads: AskedThreads) -> None:
        self.threads = threads
        self._plugin = plugin
        self._clock = clock
        self._limits = limits
        self._lock = threading.Lock()
        self._circuit = CLOSED
        self._calls = 0
        self._failures = 0
        self._last_error = ""
        self._last_error_at = ""
        self._last_error_s = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether it ever has."""
        return self._failures > 0

    def enter(self) -> None:
        """Begin a call. Raises `PluginError` while the plugin is left out."""
        with self._lock:
            if self._circuit is not CLOSED and not self._circuit.admits(now_s := self._clock.monotonic_s()):
                raise PluginLeftOut(self._plugin, self._left_out_sentence(now_s))
            if (hanging := self.threads.hanging) >= self._limits.hanging:
                raise PluginLeftOut(self._plugin, f"is left out until one of {hanging} calls that hang comes back")
            self._circuit = self._circuit.entered()
            self._calls += 1

    def enter_anyway(self) -> None:
        """Begin a call past the circuit. Raises `PluginError` only when further threads would harm this process."""
        with self._lock:
            if self.threads.hanging >= self._limits.insisted:
                raise PluginError(self._plugin, f"{self.threads.hanging} of its calls hang; restart this daemon")
            self._calls += 1

    def answer(self, deadline_s: float, question: Callable[[*Ts], T], *args: *Ts) -> T:
        """The answer to a call that has begun."""
        try:
            answer = self.threads.ask(deadline_s, question, *args)
        except PluginError as failure:
            self.note(failure)
            raise
        except BaseException:
            with self._lock:
                self._circuit = self._circuit.broken_off()
            raise
        if self._circuit is not CLOSED:
            with self._lock:
                was_left_out = self._circuit.open_until_s is not None
                self._circuit = self._circuit.succeeded()
            if was_left_out:
                log.info("plugin_answers_again", plugin=self._plugin)
        return answer

    def note(self, failure: PluginError, *, is_strike: bool = True) -> None:
        """One more failure. PVC's own plugins get no strikes: without them there is nothing to go on with."""
        with self._lock:
            self._failures += 1
            self._last_error = failure.problem
            self._last_error_at = self._clock.utc_iso()
            self._last_error_s = self._clock.monotonic_s()
            before = self._circuit
            if is_strike:
                self._circuit = before.failed(self._last_error_s, self._limits.circuit)
            opens = self._circuit.openings > before.openings
            retry_s = self._circuit.retry_in_s(self._last_error_s)
        if opens:
            log.warning("plugin_left_out", plugin=self._plugin, problem=failure.problem, retry_in_s=round(retry_s))

    def _left_out_sentence(self, now_s: float) -> str:
        retry_s = self._circuit.retry_in_s(now_s)
        until = f"for {retry_s:.0f} s more" if retry_s else "until the call that tries it again is over"
        return f"is left out {until} after {self._circuit.strikes} failures in a row, the last: {self._last_error}"

    def health(self) -> PluginHealth:
        with self._lock:
            now_s = self._clock.monotonic_s()
            return PluginHealth(
                circuit=self._circuit.state(now_s),
                strikes=self._circuit.strikes,
                calls=self._calls,
                failures=self._failures,
                hanging=self.threads.hanging,
                last_error=self._last_error,
                last_error_at=self._last_error_at,
                last_error_age_s=now_s - self._last_error_s if self._last_error_at else 0.0,
                retry_in_s=self._circuit.retry_in_s(now_s),
            )


def log_failure(failure: PluginError) -> None:
    """Log what a plugin did wrong, with the traceback of what it raised.

    That one is left out was logged when it began; every decision would say it again.
    """
    if isinstance(failure, PluginLeftOut):
        log.debug("plugin_not_asked", plugin=failure.plugin, problem=failure.problem)
        return
    log.warning("plugin_failed", plugin=failure.plugin, problem=failure.problem, exc_info=failure.__cause__)
