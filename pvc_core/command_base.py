# SPDX-License-Identifier: Apache-2.0
"""command_base: what every command stands on: the watched view, the store, the plugins, and how it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pvc_core.admission import admit
from pvc_core.changes import Change
from pvc_core.cluster_view import ClusterView
from pvc_core.errors import PluginError
from pvc_core.model import NodeRecord, VmRecord
from pvc_core.placement import Decision, Placer
from pvc_core.plugin_calls import log_failure
from pvc_core.ports import Clock, ClusterStore
from pvc_core.questions import Questions
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot


@dataclass(frozen=True)
class Outcome:
    """What a command did: the VM or node as it is now wanted, the sentence why, and how its place was chosen.

    `changed` is False when everything was as wanted already. `warnings`: sentences on what was accepted and may
    not work as meant.
    """

    reason: str
    changed: bool
    vm: VmRecord | None = None
    node: NodeRecord | None = None
    decision: Decision | None = None
    warnings: tuple[str, ...] = ()


class CommandBase:
    """The parts that the commands share. Thread-safe, as the view and the store are.

    on_plugin_failure: called with every failure of a plugin that a command asked; it must return at once.
    """

    def __init__(
        self,
        view: ClusterView,
        store: ClusterStore,
        registry: Registry,
        clock: Clock,
        on_plugin_failure: Callable[[PluginError], None] = log_failure,
    ) -> None:
        self._view = view
        self._store = store
        self._registry = registry
        self._clock = clock
        self._on_plugin_failure = on_plugin_failure
        self._placer = Placer(registry, on_plugin_failure)

    def questions(self) -> Questions:
        """What can be asked of the cluster as it is now."""
        return Questions(self._view.snapshot(), self._placer, self._registry.recovery_policies)

    def _admit(self, after: VmRecord, snapshot: ClusterSnapshot, *, may_refuse: bool = True) -> tuple[str, ...]:
        """Warnings of what the VM in its new place endangers. Raises `NotAdmitted` where the setting says so."""
        return admit(after, snapshot, self._placer, may_refuse=may_refuse)

    @staticmethod
    def _outcome(change: Change, decision: Decision | None = None, warnings: tuple[str, ...] = ()) -> Outcome:
        return Outcome(change.reason, bool(change.ops), vm=change.vm, decision=decision, warnings=warnings)
