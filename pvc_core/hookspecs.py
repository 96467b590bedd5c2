# SPDX-License-Identifier: Apache-2.0
"""hookspecs: every hook a plugin can implement, in the order in which they are called.

Two kinds that are never mixed. A *registration hook* is called once, when the plugin is loaded, and returns typed
entries; what it registers is then chosen by name and called through its Protocol. A *hook* is called for every
plugin at a certain moment.

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

from pvc_core.contributions import ApiResource, CliCommand
from pvc_core.events import Event, NodeChange, VmChange
from pvc_core.fencing import FenceAgentEntry
from pvc_core.networks import NetworkEntry
from pvc_core.plugin_types import (
    ConfigSection,
    FilterEntry,
    HypervisorEntry,
    PluginOptions,
    RecoveryPolicyEntry,
    SelectorEntry,
    StoreEntry,
    VmProposal,
)
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.storage import StorageBackendEntry

PROJECT = "pvc"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# ------------------------------------------------------------------------------------ registration hooks


@hookspec
def pvc_config_section() -> ConfigSection:  # type: ignore[empty-body]
    """Declare the plugin's options: what an operator may configure, with types, ranges, defaults and words.

    Called once, before the plugin's other hooks. `machine` is read from `[plugin.<plugin name>]` of each machine's
    configuration file when PVC starts; `cluster` stands in the store, is changed by `pvc cluster settings
    <plugin name>.<field>=...` and holds from the next decision on. Both are frozen structs in which every field has
    a default and a string under it that says what it means, with its unit. The plugin gets its own values and
    nobody else's: as `request.options` in placement, as the parameter `options` in every other hook.

    A declaration that breaks these rules, and a section of the file that has an unknown key or a wrong value, fail
    the plugin with the reason; the daemon goes on without it. A value in the cluster that is no longer acceptable,
    as after an upgrade, counts as the default and is reported.

        import msgspec
        from typing import Annotated
        from pvc_core import ConfigSection, SelectorEntry, hookimpl

        class Weights(msgspec.Struct, frozen=True):
            weight: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.0
            \"""How much a core counts against a GiB of free memory.\"""

        class CoresAndMemory:
            def score(self, request, candidates):
                weight = request.options.cluster.weight
                return {node.name: weight * node.cores + node.free_mib / 1024 for node in candidates}

        @hookimpl
        def pvc_config_section():
            return ConfigSection(cluster=Weights)

        @hookimpl
        def pvc_selectors():
            return [SelectorEntry("acme", "the most cores and memory", CoresAndMemory())]
    """


@hookspec
def pvc_stores(options: PluginOptions) -> Sequence[StoreEntry]:  # type: ignore[empty-body]
    """Register stores, chosen by the scheme of the cluster's store URL.

    `open` builds the store without connecting. When it raises, the process that wanted this store ends with
    that error: there is no other store to fall back to.

        from pvc_core import StoreEntry, hookimpl

        def open_etcd(url):
            from acme_etcd.store import EtcdStore
            return EtcdStore(url)

        @hookimpl
        def pvc_stores():
            return [StoreEntry("etcd", "an etcd cluster: etcd://host1,host2/prefix", open_etcd)]
    """


@hookspec
def pvc_hypervisors(options: PluginOptions) -> Sequence[HypervisorEntry]:  # type: ignore[empty-body]
    """Register hypervisors, chosen by the scheme of the node's hypervisor URL.

    `open` builds the driver without connecting. When it raises, the node daemon ends with that error.

        from pvc_core import HypervisorEntry, hookimpl

        def open_bhyve(site):
            from acme_bhyve.driver import BhyveHypervisor
            return BhyveHypervisor(site.url, site.node)

        @hookimpl
        def pvc_hypervisors():
            return [HypervisorEntry("bhyve", "bhyve guests: bhyve:///", open_bhyve)]
    """


@hookspec
def pvc_filters(options: PluginOptions) -> Sequence[FilterEntry]:  # type: ignore[empty-body]
    """Register filters. Every placement asks all of them; a node passes when none rejects it.

    A filter that raises, or returns anything but a mapping, is left out and the decision is degraded; with
    `fail_closed=True` no node passes instead. Names of nodes it was not asked about do not matter.

        from pvc_core import FilterEntry, hookimpl

        class Licensed:
            def reject(self, request, nodes, settings):
                if "oracle" not in request.metadata.tags:
                    return {}
                return {n.name: "has no Oracle licence" for n in nodes if "oracle" not in n.labels}

        @hookimpl
        def pvc_filters():
            return [FilterEntry("licensed", "nodes without a licence for the VM", Licensed(), fail_closed=True)]
    """


@hookspec
def pvc_selectors(options: PluginOptions) -> Sequence[SelectorEntry]:  # type: ignore[empty-body]
    """Register selectors, chosen by name per VM (`--node-selector`) or as the cluster's default.

    A selector is asked once per placement about all candidates and scores each; the largest number wins. When
    it raises, or returns anything but a finite number for exactly the candidates, the cluster's default
    selector ranks instead and the decision is degraded.

        from pvc_core import SelectorEntry, hookimpl

        class MostCores:
            def score(self, request, candidates):
                return {node.name: float(node.cores) for node in candidates}

        @hookimpl
        def pvc_selectors():
            return [SelectorEntry("cores", "the most physical cores", MostCores())]
    """


@hookspec
def pvc_recovery_policies(options: PluginOptions) -> Sequence[RecoveryPolicyEntry]:  # type: ignore[empty-body]
    """Register recovery policies, chosen by name per VM (`recovery_policy`).

    Asked when no node can take a VM whose node is drained: "hold" shuts it down until its home is ready, "stay"
    leaves it where it is. Anything else, or an exception, counts as "hold".

        from pvc_core import RecoveryPolicyEntry, hookimpl

        class HoldUnlessPrecious:
            def without_candidate(self, request):
                return "stay" if "precious" in request.metadata.tags else "hold"

        @hookimpl
        def pvc_recovery_policies():
            return [RecoveryPolicyEntry("precious", "held, unless tagged precious", HoldUnlessPrecious())]
    """


@hookspec
def pvc_storage_backends(options: PluginOptions) -> Sequence[StorageBackendEntry]:  # type: ignore[empty-body]
    """Register storage backends, chosen by name for a volume.

    `open` builds the backend for one host without connecting. When it raises, that backend is shown as unusable;
    nothing else is affected.

        from pvc_core import StorageBackendEntry, hookimpl

        def open_lvm(site):
            from acme_lvm.backend import LvmBackend
            return LvmBackend(site.node)

        @hookimpl
        def pvc_storage_backends():
            return [StorageBackendEntry("lvm", "logical volumes of this host", open_lvm)]
    """


@hookspec
def pvc_fence_agents(options: PluginOptions) -> Sequence[FenceAgentEntry]:  # type: ignore[empty-body]
    """Register fence agents, chosen by name per node.

    The agents of a lost node are asked in order until one confirms that it is off. They fail closed: an exception,
    an answer that is no `FenceVerdict` and one that comes after `deadline_s` all mean "not fenced", and nothing
    is recovered from that node.

        from pvc_core import FenceAgentEntry, FenceStatus, FenceVerdict, hookimpl

        class Pdu:
            def power_off(self, request):
                from acme_pdu import Outlet
                outlet = Outlet(request.device["host"], request.device["outlet"])
                outlet.off()
                return FenceVerdict(outlet.state() == "off", f"the outlet is {outlet.state()}")

            def status(self, request):
                from acme_pdu import Outlet
                return FenceStatus(Outlet(request.device["host"], request.device["outlet"]).state())

        @hookimpl
        def pvc_fence_agents():
            return [FenceAgentEntry("acme-pdu", "switched outlets of Acme's PDUs", Pdu(), deadline_s=20)]
    """


@hookspec
def pvc_networks(options: PluginOptions) -> Sequence[NetworkEntry]:  # type: ignore[empty-body]
    """Register kinds of networks, chosen by name for a network.

    `open` builds the driver for one host without touching it. When it raises, the networks of that kind are shown as
    missing on that host, and VMs that need them are not placed there.

        from pvc_core import NetworkEntry, hookimpl

        def open_macvtap(site):
            from acme_macvtap.driver import Macvtap
            return Macvtap(site.node)

        @hookimpl
        def pvc_networks():
            return [NetworkEntry("macvtap", "guests directly on the host's link", open_macvtap)]
    """


@hookspec
def pvc_cli_commands() -> Sequence[CliCommand]:  # type: ignore[empty-body]
    """Add commands to `pvc`, below a group that exists or one of their own.

    Asked only where plugins are installed beside PVC's own, and then when help is shown or a word is no command of
    `pvc` itself; the command is imported when somebody runs it. It is a click command that gets the invocation as its
    object: `session.api` asks the API, `session.show` prints an answer in the form of `-o`. A command that exists
    already is never replaced, and what two plugins add under one name is refused to both. When it raises anything but
    PVC's and click's errors, or cannot be imported, the error names the plugin; every other command works.

        from pvc_core import CliCommand, hookimpl

        def pools():
            import click  # which daemons that load this plugin do not need

            @click.command(help="List Acme's pools.")
            @click.pass_obj
            def command(session):
                document = session.api.get("storage", "acme")
                session.show(document, lambda: ", ".join(document["pools"]))

            return command

        @hookimpl
        def pvc_cli_commands():
            return [CliCommand(("storage", "acme", "pools"), pools, "List Acme's pools.")]
    """


@hookspec
def pvc_api_resources() -> Sequence[ApiResource]:  # type: ignore[empty-body]
    """Add resources to the API, under /api/v1.

    They are built once per API process, and appear in the OpenAPI document with what their methods declare. Every
    request is authenticated as any other; a method without a declaration takes an admin. A template that could match
    a path of PVC's own, or of another plugin's, is refused. An exception in a method answers that one request with a
    problem; a resource whose `build` raises is not served. Of each plugin only some requests are served at a time,
    so that one that hangs leaves threads to all others.

        import msgspec
        from pvc_core import ApiResource, api_method, hookimpl

        class Pools(msgspec.Struct):
            pools: tuple[str, ...]

        class PoolCollection:
            def __init__(self, site):
                self._site = site

            @api_method("viewer", Pools)
            def on_get(self, req, resp):
                "List the pools."
                resp.media = Pools(tuple(sorted(self._site.snapshot().nodes)))

        @hookimpl
        def pvc_api_resources():
            return [ApiResource("/storage/acme", PoolCollection, "Acme's pools")]
    """


# --------------------------------------------------------------------------------------------------- hooks


@hookspec
def pvc_validate_vm(  # type: ignore[empty-body]
    proposal: VmProposal, snapshot: ClusterSnapshot, options: PluginOptions
) -> Sequence[str]:
    """Veto a VM's definition or metadata: return the reasons against it, none to agree.

    Called before a define, a new definition, a rename or changed metadata is written. The reasons of all plugins
    are put together; a single one refuses the command. A plugin that raises, or returns anything but strings, has
    no say: the command goes on and the failure is reported. `options` are the plugin's own.

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

    Called after the change is in the store, in the process that made it: an API worker, or the node daemon of the
    leader or of the VM's node. Apart from it, on a thread of its own and at most once: a command or a decision never
    waits for it, and what is not told when the process ends is not told later. All plugins are told, one after the
    other; what they return is ignored. A plugin that raises or hangs costs only itself, and an event says so. When
    plugins are slower than changes come, the oldest are dropped and the log says how many.

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

    Called, combined and isolated as `pvc_vm_changed`.

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

    Called, combined and isolated as `pvc_vm_changed`, after it. A plugin whose own failure becomes an event is told of
    that too; it does not fail twice within a minute for it.

        from pvc_core import hookimpl

        @hookimpl
        def pvc_event(event, options):
            if event.kind in ("vm_failed", "vm_held", "vm_stayed", "plugin_failed"):
                from acme_chat import post
                post(f"{event.kind}: {event.vm or event.node or event.plugin}: {event.reason}")
    """
