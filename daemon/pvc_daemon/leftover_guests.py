# SPDX-License-Identifier: Apache-2.0
"""leftover_guests: ends the guests of VMs that were undefined by force, as their node's ledger says.

What is done is decided in `pvc_core.leftovers`; each guest is dealt with on a thread of its own, since a hypervisor may
take its time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

import structlog

from pvc_core import layout, leftovers
from pvc_core.codec import Stored, decode
from pvc_core.errors import BrokenRecord, Conflict, PvcError
from pvc_core.events import EventKind, Happening
from pvc_core.journal import Journal
from pvc_core.leftovers import EndLeftover, StrikeOut
from pvc_core.model import Ledger
from pvc_core.ports import Check, Clock, ClusterStore, Hypervisor, Op, Threads
from pvc_core.volume_claims import every_claim, releasing

log = structlog.get_logger(__name__)
RETRY_S = 1.0


class LeftoverGuests:
    """Of one node. Thread-safe."""

    def __init__(
        self,
        node: str,
        store: ClusterStore,
        hypervisor: Hypervisor,
        clock: Clock,
        journal: Journal,
        threads: Threads,
        on_done: Callable[[], None],
    ) -> None:
        """`on_done`: called when something was done or failed, so that it is looked again."""
        self._node = node
        self._store = store
        self._hypervisor = hypervisor
        self._clock = clock
        self._journal = journal
        self._threads = threads
        self._on_done = on_done
        self._lock = threads.lock()
        self._busy: set[str] = set()
        self._paused_until_s = 0.0

    def look(
        self, ledger: Ledger, active: Collection[str], without_record: Mapping[str, str], busy: Collection[str]
    ) -> float | None:
        """Begin what is to be done; when to look again, if nothing happens. The arguments are those of `decide`."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            ours, again_s = frozenset(self._busy), self._paused_until_s
        decision = leftovers.decide(ledger, active, without_record, ours.union(busy))
        if not (decision.ends or decision.strikes):
            return None
        if now_s < again_s:
            return again_s
        for action in decision.ends:
            self._begin(f"end-{action.name}", [action.uuid], partial(self._end, action))
        if decision.strikes:
            uuids = [action.uuid for action in decision.strikes]
            self._begin("strike-out", uuids, partial(self._strike_out, decision.strikes))
        return None

    def _begin(self, name: str, uuids: Collection[str], work: Callable[[], None]) -> None:
        with self._lock:
            self._busy.update(uuids)
        try:
            self._threads.start(f"leftover-{name}", partial(self._carry_out, name, uuids, work))
        except RuntimeError:
            self._no_longer_busy(uuids)
            raise

    def _carry_out(self, name: str, uuids: Collection[str], work: Callable[[], None]) -> None:
        failed = True
        try:
            work()
            failed = False
        except PvcError as error:
            log.warning("leftover_stays", do=name, node=self._node, problem=error.sentence())
        except Exception:
            log.exception("leftover_broke", do=name, node=self._node)
        finally:
            if failed:
                self._paused_until_s = self._clock.monotonic_s() + RETRY_S
            self._no_longer_busy(uuids)
            self._on_done()

    def _no_longer_busy(self, uuids: Collection[str]) -> None:
        with self._lock:
            self._busy.difference_update(uuids)

    def _end(self, action: EndLeftover) -> None:
        """Unless the store says at this moment that it is a VM again, or no leftover of this node."""
        ledger = self._ledger()
        if ledger is None or action.uuid not in ledger.value.leftovers or self._store.get(layout.vm(action.uuid)):
            return
        try:
            self._store.transaction([Check(ledger.key, ledger.version)])
        except Conflict:
            return
        reason = "it was undefined by force"
        log.warning("leftover_terminated", vm=action.name, uuid=action.uuid, node=self._node, reason=reason)
        self._hypervisor.destroy(action.uuid)
        told = Happening(EventKind.VM_TERMINATED, f"terminated: {reason}", action.name, action.uuid, self._node)
        self._journal.note(self._store, told)

    def _strike_out(self, strikes: Collection[StrikeOut]) -> None:
        change = leftovers.struck_out(strikes, self._node, self._ledger())
        if not change.ops:
            return
        freed = self._freed({strike.uuid for strike in strikes})
        self._journal.commit(self._store, (*change.ops, *freed), change.happenings)
        log.info("leftovers_gone", node=self._node, reason=change.reason)

    def _freed(self, uuids: Collection[str]) -> tuple[Op, ...]:
        """The volumes of those that are no VMs again become nobody's, when no other node has a leftover of them."""
        records = self._store.get_many([layout.vm(uuid) for uuid in uuids])
        gone = {uuid for uuid in uuids if layout.vm(uuid) not in records}
        try:
            claims = [claim for claim in every_claim(self._store) if claim.value.vm in gone]
            if not claims:
                return ()
            keys = [layout.ledger(node) for node in self._store.children(layout.LEDGERS) if node != self._node]
            ledgers = [decode(entry, Ledger) for entry in self._store.get_many(keys).values()]
        except BrokenRecord as broken:
            log.error("record_broken", key=broken.key, problem=broken.problem)
            return ()
        others = [ledger for ledger in ledgers if gone.intersection(ledger.value.leftovers)]
        held = {uuid for ledger in others for uuid in ledger.value.leftovers}
        # Should two nodes look at the same moment, one of them looks again and finds that the other has finished.
        return (
            *(Check(ledger.key, ledger.version) for ledger in others),
            *releasing(claim for claim in claims if claim.value.vm not in held and claim.value.purpose == "attached"),
        )

    def _ledger(self) -> Stored[Ledger] | None:
        entry = self._store.get(layout.ledger(self._node))
        return decode(entry, Ledger) if entry else None
