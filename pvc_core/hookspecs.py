# SPDX-License-Identifier: Apache-2.0
"""hookspecs: every hook a plugin can implement, in the order in which they are called.

Two kinds that are never mixed. A *registration hook* is called once, when the plugin is loaded, and returns typed
entries; what it registers is then chosen by name and called through its Protocol. A *hook* is called for every
plugin at a certain moment. Each says when it is called, how the answers of several plugins come together, and what it
means when one fails.

A plugin implements any of them with `hookimpl`, in a module named by an entry point of the group `pvc`:

    [project.entry-points.pvc]
    acme = "pvc_selector_acme"

Hooks with a parameter `options` get what is configured for this very plugin (`pvc_config_section`). In registration
hooks it has the machine's half only; the cluster's is None there, because no cluster is known yet.

Rules for every implementation: no parameters but those below, by these names (fewer are fine), no default
values, no wrappers. A plugin that breaks them, raises in a registration hook, or returns anything but entries
is not loaded; it is listed as failed with the reason, and everything else goes on. A driver's name starts with
a letter or digit and holds letters, digits, `.`, `_`, `+` and `-`, 64 at most; a name that two plugins register
is refused to both, and PVC's own names are refused to others. "none" is no name: it means the default.
"""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from pvc_core.events import Event, NodeChange, VmChange
from pvc_core.plugin_types import PluginOptions, VmProposal
from pvc_core.registration_hooks import (
    PROJECT,
    hookspec,
    pvc_api_resources,
    pvc_cli_commands,
    pvc_config_section,
    pvc_fence_agents,
    pvc_filters,
    pvc_hypervisors,
    pvc_networks,
    pvc_node_tasks,
    pvc_recovery_policies,
    pvc_selectors,
    pvc_storage_backends,
    pvc_stores,
)
from pvc_core.snapshot import ClusterSnapshot

__all__ = [
    "PROJECT",
    "hookimpl",
    "pvc_config_section",
    "pvc_stores",
    "pvc_hypervisors",
    "pvc_filters",
    "pvc_selectors",
    "pvc_recovery_policies",
    "pvc_storage_backends",
    "pvc_fence_agents",
    "pvc_networks",
    "pvc_node_tasks",
    "pvc_cli_commands",
    "pvc_api_resources",
    "pvc_validate_vm",
    "pvc_vm_changed",
    "pvc_node_changed",
    "pvc_event",
    "pvc_notification_test",
]

hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def pvc_validate_vm(  # type: ignore[empty-body]
    proposal: VmProposal, snapshot: ClusterSnapshot, options: PluginOptions
) -> Sequence[str]:
    """Veto a VM's definition or metadata: return the reasons against it, none to agree.

    Called: before a define, a new definition, a rename or changed metadata is written. It has two seconds. The
    snapshot is the plugin's own copy, and `options` are what is configured for it.

    Together: the reasons of all plugins are put together; a single one refuses the command.

    Failing: a plugin that raises, hangs, or returns anything but strings has no say: the command goes on and the
    failure is reported.

        from pvc_core import hookimpl

        @hookimpl
        def pvc_validate_vm(proposal):
            if any(tag.startswith("owner=") for tag in proposal.metadata.tags):
                return []
            return ["needs a tag owner=..."]
    """


@hookspec
def pvc_vm_changed(change: VmChange, options: PluginOptions) -> None:
    """Learn that a VM's record is another: `change.previous` and `change.vm` are the two, `change.reason` says why.

    Called: after the change is in the store, in the process that made it: an API worker, or the node daemon of the
    leader or of the VM's node. Apart from it, on a thread of its own and at most once: a command or a decision never
    waits for it, and what is not told when the process ends is not told later.

    Together: all plugins are told, one after the other; what they return is ignored. When plugins are slower than
    changes come, the oldest are dropped and the log says how many.

    Failing: a plugin that raises or hangs costs only itself, and an event says so.

        from pvc_core import hookimpl

        @hookimpl
        def pvc_vm_changed(change):
            if change.previous is None or change.vm is None or change.previous.node == change.vm.node:
                return
            from acme_inventory import Inventory
            Inventory().place(change.vm.name, change.vm.node)
    """


@hookspec
def pvc_node_changed(change: NodeChange, options: PluginOptions) -> None:
    """Learn that a node's record is another: its mode, the progress of a drain, or that its daemon came or left.

    Called: as `pvc_vm_changed`, after the change, in the process that made it, at most once.

    Together: all plugins are told; what they return is ignored.

    Failing: a plugin that raises or hangs costs only itself, and an event says so.

        from pvc_core import NodeMode, hookimpl

        @hookimpl
        def pvc_node_changed(change):
            if change.node.mode is NodeMode.FLUSHED and change.previous.mode is not NodeMode.FLUSHED:
                from acme_monitoring import silence
                silence(change.node.name, change.reason)
    """


@hookspec
def pvc_event(event: Event, options: PluginOptions) -> None:
    """Learn of an event as it is kept, such as to pass it on to a chat or a log. docs/events.md lists the kinds.

    Called: as `pvc_vm_changed` and after it, in the process that wrote the event, at most once.

    Together: all plugins are told; what they return is ignored.

    Failing: a plugin that raises or hangs costs only itself. Its failure becomes an event of which it is told too, but
    not twice within a minute.

        from pvc_core import hookimpl

        @hookimpl
        def pvc_event(event, options):
            if event.severity == "critical":
                from acme_chat import post
                post(f"{event.kind}: {event.vm or event.node or event.plugin}: {event.reason}")
    """


@hookspec
def pvc_notification_test(event: Event, options: PluginOptions) -> str:  # type: ignore[empty-body]
    """Deliver this event now, whatever its kind, and say in a sentence who took it; "" when it is to tell nobody.

    Called: when an administrator tries out whether notifications arrive (`pvc cluster notify-test`), in the process
    that answers, while that person waits. It has two seconds. The event is also told by `pvc_event`, as any other.

    Together: the person reads the answers of all plugins.

    Failing: what a plugin raises is its answer, and counts as any failure; the others are asked all the same.

        from pvc_core import hookimpl

        @hookimpl
        def pvc_notification_test(event, options):
            from acme_chat import post
            post(f"{event.kind}: {event.reason}")
            return "posted to the chat"
    """
