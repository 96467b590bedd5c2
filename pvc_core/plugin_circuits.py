# SPDX-License-Identifier: Apache-2.0
"""plugin_circuits: when a plugin that keeps failing is left out, and when it is tried again.

Three failures in a row open its circuit: it is not asked at all, so that nobody waits for its deadline any more.
After a pause one call is let through; what becomes of it closes the circuit or doubles the pause. A pure value: every
step returns the circuit that follows, and time comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pvc_core.plugin_troubles import CircuitState


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """strikes: failures in a row that open it. pause_s: how long it stays open at first; doubled after each trial that
    fails, up to longest_pause_s."""

    strikes: int = 3
    pause_s: float = 30.0
    longest_pause_s: float = 600.0


DEFAULT_RULES = CircuitRules()


@dataclass(frozen=True, slots=True)
class Circuit:
    """One plugin's. strikes: failures since the last success. openings: how often it opened since then.

    open_until_s: on the monotonic clock; None while it is closed. on_trial: one call is under way to find out.
    """

    strikes: int = 0
    openings: int = 0
    open_until_s: float | None = None
    on_trial: bool = False

    def state(self, now_s: float) -> CircuitState:
        """closed: every call goes through; half-open: the next one, as a trial; open: none."""
        if self.open_until_s is None:
            return "closed"
        return "open" if now_s < self.open_until_s else "half-open"

    def admits(self, now_s: float) -> bool:
        """Whether a call may be made now."""
        return self.open_until_s is None or (now_s >= self.open_until_s and not self.on_trial)

    def retry_in_s(self, now_s: float) -> float:
        """Until a trial is allowed; 0 when it is, or when none is needed."""
        return 0.0 if self.open_until_s is None else max(0.0, self.open_until_s - now_s)

    def entered(self) -> Circuit:
        """A call that was admitted begins; of a circuit that is not closed it is the trial."""
        return self if self.open_until_s is None else replace(self, on_trial=True)

    def broken_off(self) -> Circuit:
        """The trial ended without telling anything: its caller was interrupted. The next call is the trial."""
        return replace(self, on_trial=False)

    def succeeded(self) -> Circuit:
        """Any success closes it, also that of a call which began before it opened."""
        return CLOSED

    def failed(self, now_s: float, rules: CircuitRules) -> Circuit:
        """One more strike. While it is open, the failures of calls that began earlier only count."""
        strikes = self.strikes + 1
        waits = self.open_until_s is not None and not self.on_trial
        if waits or strikes < rules.strikes:
            return replace(self, strikes=strikes)
        # Bounded, because two to the power of a few thousand is no float.
        pause_s = min(rules.pause_s * 2.0 ** min(self.openings, 64), rules.longest_pause_s)
        return Circuit(strikes, self.openings + 1, now_s + pause_s)


CLOSED = Circuit()
