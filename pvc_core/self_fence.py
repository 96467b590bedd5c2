# SPDX-License-Identifier: Apache-2.0
"""self_fence: when a node arms its watchdog, feeds it, lets it fire and disarms it, and what it promises by that.

A node that has lost the store cannot know whether its VMs are being started elsewhere, so it must be off by then. It
tells the cluster so in its record: `watchdog_s` seconds after the end of its session it is off, whatever becomes of
its daemon. The leader takes that for proof once `watchdog_s` and `watchdog_margin_s` have passed by its own clock
since it has seen the session gone (`leader_fence`); no two clocks are compared, and a new leader counts anew. Why it
is true:

- The node feeds only after an answer of the store, in the session in which it is registered. Let C be when it sent
  the last request that was answered so. The store has heard of it at C or later, so the session ends at
  E >= C + session timeout, and the leader sees that at D >= E.
- Between the answer and the food the daemon can be held up (stopped, swapped out), for as long as the watchdog lets
  it: the food before came before C, so the watchdog has fired by C + T unless the last food came before. T: the time
  that the watchdog has told when it was armed. The last food came before C + T, and the host is off at C + 2 T.
- The first food, arming, comes before the promise is written, in the same session, so it comes before E.
- So with the promise 2 T the host is off at C + 2 T <= E + 2 T - session timeout <= D + watchdog_s - session timeout.

The session timeout and the margin are left over: for what the reset itself takes, for clocks that do not run at the
same speed, and for a store whose servers agree on a sign of life a moment later than one of them has heard it. A
promise of T alone would hold only if T is below session timeout and margin together.

A promise is never longer than the truth lasts: arm, then write; clear, then disarm.
"""

from __future__ import annotations

from dataclasses import dataclass

PROMISE = 2.0
"""The promise is so many times the watchdog's time."""
FRESH = 0.5
"""An answer of the store counts for so much of the watchdog's time."""


@dataclass(frozen=True)
class Arm:
    """Start the watchdog, or take over the one that an earlier life of this daemon may have left running."""

    reason: str


@dataclass(frozen=True)
class Promise:
    """Write `watchdog_s` to the node's record; 0 takes the promise back."""

    watchdog_s: float
    reason: str


@dataclass(frozen=True)
class Feed:
    """Begin the watchdog's time anew."""

    reason: str


@dataclass(frozen=True)
class Starve:
    """Do not feed it: it ends this host when its time is over."""

    reason: str


@dataclass(frozen=True)
class Disarm:
    """Stop the watchdog."""

    reason: str


SelfFenceAction = Arm | Promise | Feed | Starve | Disarm


@dataclass(frozen=True)
class Situation:
    """What a node knows of itself.

    owns_vms: a VM may run here, or come here. is_registered: its session is connected, and it has registered in it.
    silent_s: since when the store has not answered in this session, counted from the sending of the last request that
    it has answered; None: it never has. armed_s: the time of the watchdog that is armed, 0 when none is, None when it
    is not known. promised_s: what its record says; None when that is not known. timeout_s: the configured time.
    problem: why the watchdog could not be used when that was tried last; "" when it could. is_paused: the cluster or
    this node is in maintenance, so that a store that is away is planned.
    """

    owns_vms: bool
    is_registered: bool
    silent_s: float | None
    armed_s: float | None
    promised_s: float | None
    timeout_s: float
    problem: str = ""
    is_paused: bool = False

    @property
    def why_unneeded(self) -> str:
        """Why the watchdog is not to be armed; "" when it is."""
        if self.is_paused:
            return "it is in maintenance"
        return "" if self.owns_vms else "no VM is to run here"


def decide(situation: Situation) -> tuple[SelfFenceAction, ...]:
    """What to do now, in this order; after anything but feeding and starving, look again at once."""
    why_not = why_no_food(situation)
    if why_not:
        return (Starve(f"{why_not}: it is not fed and ends this host"),) if situation.armed_s else ()
    armed_s, promised_s = situation.armed_s, situation.promised_s
    if situation.problem and promised_s:
        return (Promise(0.0, f"it does not work: {situation.problem}"),)
    if not armed_s and promised_s:
        return (Promise(0.0, "it is not armed"),)
    if armed_s is None:
        return (Arm("an earlier life of this daemon may have left it armed"),)
    if not armed_s:
        return () if situation.why_unneeded else (Arm("VMs are to run here"),)
    feed = Feed("the store has answered")
    if not situation.why_unneeded:
        owed_s = promise_of(armed_s)
        if promised_s in (owed_s, None):
            return (feed,)
        return feed, Promise(owed_s, f"it ends this host {owed_s:g} s after the end of its session at the latest")
    if promised_s:
        return feed, Promise(0.0, situation.why_unneeded)
    return (feed,) if promised_s is None else (Disarm(situation.why_unneeded),)


def why_no_food(situation: Situation) -> str:
    """Why the watchdog must not be fed; "" when it may be."""
    if not situation.is_registered:
        return "this node is not registered in a session with the store"
    if situation.silent_s is None:
        return "the store has not answered yet"
    if situation.silent_s > FRESH * (situation.armed_s or situation.timeout_s):
        return f"the store has not answered for {situation.silent_s:.1f} s"
    return ""


def promise_of(armed_s: float) -> float:
    """After how many seconds from the end of its session a node with such a watchdog is off at the latest."""
    return PROMISE * armed_s
