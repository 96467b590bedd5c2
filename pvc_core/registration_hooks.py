# SPDX-License-Identifier: Apache-2.0
"""registration_hooks: the hooks by which a plugin says what it brings: its options, its drivers, what it adds.

Each is called once, when the plugin is loaded. `pvc_core.hookspecs` has the rules, and the hooks beside these.
"""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from pvc_core.contributions import ApiResource, CliCommand
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
)
from pvc_core.storage import StorageBackendEntry
from pvc_core.task_entries import NodeTaskEntry

PROJECT = "pvc"

hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def pvc_config_section() -> ConfigSection:  # type: ignore[empty-body]
    """Declare the plugin's options: what an operator may configure, with types, ranges, defaults and words.

    `machine` is read from `[plugin.<plugin name>]` of each machine's configuration file when PVC starts; `cluster`
    stands in the store, is changed by `pvc cluster settings <plugin name>.<field>=...` and holds from the next decision
    on. Both are frozen structs in which every field has a default and a string under it that says what it means, with
    its unit.

    Called: once, before the plugin's other hooks.

    Together: every plugin gets its own values and nobody else's: as `request.options` in placement, as the parameter
    `options` in every other hook.

    Failing: a declaration that breaks these rules, and a section of the file that has an unknown key or a wrong value,
    fail the plugin with the reason; the daemon goes on without it. A value in the cluster that is no longer
    acceptable, as after an upgrade, counts as the default and is reported.

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

    Called: once, when the plugin is loaded; `open` when a process needs the store. It builds the store without
    connecting, and has 30 seconds.

    Together: exactly one driver serves a scheme; two that claim the same one are refused until one is blocked.

    Failing: when `open` raises, the process that wanted this store ends with that error: there is no other store to
    fall back to.

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

    Called: once, when the plugin is loaded; `open` when the node daemon starts. It builds the driver without
    connecting, and has 30 seconds.

    Together: exactly one driver serves a scheme; two that claim the same one are refused until one is blocked.

    Failing: when `open` raises, the node daemon ends with that error.

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
    """Register filters: which nodes may never take a VM.

    Called: once, when the plugin is loaded; `reject` with every placement, about all nodes at once. It has two seconds.

    Together: all filters are asked, always; a node passes when none rejects it. Names of nodes that were not asked
    about do not matter.

    Failing: a filter that raises, hangs, or returns anything but a mapping is left out and the decision is degraded;
    with `fail_closed=True` no node passes instead.

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
    """Register selectors: which of the nodes that pass is the best, chosen by name per VM or as the cluster's default.

    Called: once, when the plugin is loaded; `score` with every placement of a VM that names the selector, about all
    candidates at once. It has two seconds.

    Together: the largest number wins; PVC normalises the scores and settles ties. In an expression such as
    `mem:2,cores:1` each selector's scores count by its weight.

    Failing: where one raises, hangs, or returns anything but a finite number for exactly the candidates, the others of
    the expression rank, else the cluster's default selector; the decision is degraded and names the plugin.

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
    """Register recovery policies: what becomes of a VM whose node is lost or that has no other place, by name per VM.

    Called: once, when the plugin is loaded; `without_candidate` when no node can take a VM whose node is drained;
    `after_loss`, which a policy may leave out, when the VM's node is known to be off. Each has two seconds.

    Together: the VM's own policy is asked and no other. Of a drain, "hold" shuts the VM down until its home is ready,
    "stay" leaves it where it is. After a loss, "restart" starts it on another node, "hold" when its home is ready,
    "stop" when it is started by command.

    Failing: an exception, a deadline that passed, or any other answer counts as "hold" in a drain and as "restart"
    after a loss.

        from pvc_core import RecoveryPolicyEntry, hookimpl

        class HoldUnlessPrecious:
            def without_candidate(self, request):
                return "stay" if "precious" in request.metadata.tags else "hold"

            def after_loss(self, request):
                return "stop" if "precious" in request.metadata.tags else "restart"

        @hookimpl
        def pvc_recovery_policies():
            return [RecoveryPolicyEntry("precious", "held, unless tagged precious", HoldUnlessPrecious())]
    """


@hookspec
def pvc_storage_backends(options: PluginOptions) -> Sequence[StorageBackendEntry]:  # type: ignore[empty-body]
    """Register storage backends, chosen by name for a volume.

    Called: once, when the plugin is loaded; `open` when a host first needs the backend. It builds the backend for this
    host without connecting.

    Together: each volume belongs to the one backend that it names.

    Failing: when `open` raises, that backend is shown as unusable; nothing else is affected.

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
    """Register fence agents: how a lost node is switched off, chosen by name per fence device of a node.

    Called: once, when the plugin is loaded; `power_off` when the node is to be off, also after earlier attempts failed.
    It has the entry's `deadline_s`, and so has `status`. An agent that also has `problems` (`DeviceCheck`) is asked
    what is wrong with a device's parameters before they are kept.

    Together: a node's devices are asked level by level, until all of one level have confirmed that it is off.

    Failing: closed. An exception, an answer that is no `FenceVerdict`, and one that comes too late all mean "not
    fenced", and nothing is recovered from that node.

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

    Called: once, when the plugin is loaded; `open` when a host first needs the network. It builds the driver for this
    host without touching it.

    Together: each network belongs to the one kind that it names.

    Failing: when `open` raises, the networks of that kind are shown as missing on that host, and VMs that need them
    are not placed there.

        from pvc_core import NetworkEntry, hookimpl

        def open_macvtap(site):
            from acme_macvtap.driver import Macvtap
            return Macvtap(site.node)

        @hookimpl
        def pvc_networks():
            return [NetworkEntry("macvtap", "guests directly on the host's link", open_macvtap)]
    """


@hookspec
def pvc_node_tasks(options: PluginOptions) -> Sequence[NodeTaskEntry]:  # type: ignore[empty-body]
    """Register tasks that a node's daemon carries out, by name: what only one host can do, with progress and a result.

    Called: once, when the plugin is loaded; `run` for each task, on a thread of its own in the daemon of its node, for
    as long as it takes. A resource of the same plugin hands a task over with `site.give_task` and answers with what
    this returns and the status 202; a command follows it with `session.follow_task`. What changes nothing and is soon
    answered is asked with `site.ask_node` instead, which waits for the result: there is no event, and it stays nowhere.

    Together: a node carries out a few tasks at a time, whoever they are from, in the order in which they were given;
    and beside them two that are questions.

    Failing: when `run` raises, the task has failed, with the sentence of a `PvcError` as its reason. When the daemon
    dies, a task that is `resumable` is begun again, and any other has failed.

        from pvc_core import NodeTaskEntry, hookimpl

        def wipe(request, report):
            from acme_disks import sectors, wipe_sector
            device = request.parameters.get("device", "")
            for number in range(3):
                report(number, 3, f"wiping {device}")
                wipe_sector(device, number)
            return {"device": device}

        @hookimpl
        def pvc_node_tasks():
            return [NodeTaskEntry("acme-wipe", "overwrites a disk", wipe, resumable=True)]
    """


@hookspec
def pvc_cli_commands() -> Sequence[CliCommand]:  # type: ignore[empty-body]
    """Add commands to `pvc`, below a group that exists or one of their own.

    Called: when help is shown or a word is no command of `pvc` itself; the command is imported when somebody runs it.
    PVC's own plugins also name where they add commands, in the entry-point group `pvc.commands`, since `pvc` starts
    without loading them everywhere else. It is a click command that gets the invocation as its
    object (`pvc_core.invocation`): `session.api` asks the API, `session.show` prints an answer in the form of `-o`,
    which every such command has, and `session.table` makes a table for people.

    Together: a command that exists already is never replaced, and what two plugins add under one name is refused to
    both.

    Failing: when it raises anything but PVC's and click's errors, or cannot be imported, the error names the plugin;
    every other command works.

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

    Called: once per API process, which builds each resource. It appears in the OpenAPI document with what its methods
    declare. Every request is authenticated as any other; a method without a declaration takes an admin.

    Together: a template that could match a path of PVC's own, or of another plugin's, is refused.

    Failing: an exception in a method answers that one request with a problem; a resource whose `build` raises is not
    served. Of each plugin only some requests are served at a time, so that one that hangs leaves threads to all others.

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
