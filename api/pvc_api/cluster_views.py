# SPDX-License-Identifier: Apache-2.0
"""cluster_views: the cluster at a glance: how many of what, and a sentence for each thing to act on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pvc_api.node_views import is_report_stale
from pvc_api.plugin_views import skews
from pvc_api.rule_views import rule_problems
from pvc_api.version import pvc_version
from pvc_api.views import BrokenRecordView, ClusterStatus
from pvc_core.limits import is_outside_limit
from pvc_core.maintenance import sentence_on
from pvc_core.model import FenceStep, VmState
from pvc_core.snapshot import ClusterSnapshot, NodeView


def status_of(snapshot: ClusterSnapshot, store: str, leader: str, plugin_problems: Sequence[str] = ()) -> ClusterStatus:
    """Counts, the leader, and what is wrong. `store`: the session's state. `leader`: a node's name, "" when none."""
    nodes = snapshot.nodes.values()
    reports = [node.report.value for node in nodes if node.report]
    return ClusterStatus(
        version=pvc_version(),
        store=store,
        leader=leader,
        nodes=dict(Counter(node.mode.value for node in nodes)),
        liveness=dict(Counter(node.liveness for node in nodes)),
        vms=dict(Counter(vm.value.state.value for vm in snapshot.vms.values())),
        memory_total_mib=sum(report.memory_total_mib for report in reports),
        memory_reserved_mib=sum(node.reserved.memory_mib for node in nodes),
        vcpus_reserved=sum(node.reserved.vcpus for node in nodes),
        cores=sum(report.cores for report in reports),
        pause=snapshot.pause,
        problems=(*_problems(snapshot, leader), *plugin_problems),
        broken=tuple(BrokenRecordView(key=b.key, problem=b.problem) for _, b in sorted(snapshot.broken.items())),
    )


def _problems(snapshot: ClusterSnapshot, leader: str) -> Iterator[str]:
    if not leader:
        yield "no node is the leader: nothing is drained or recovered until one of the coordinators is"
    if snapshot.pause is not None:
        yield f"{sentence_on(snapshot.pause)}; `pvc cluster maintenance off` ends that"
    for name in sorted(snapshot.nodes):
        yield from (f"node {name} {problem}" for problem in _node_problems(snapshot.nodes[name], snapshot))
    for stored in sorted(snapshot.vms.values(), key=lambda vm: vm.value.name):
        record = stored.value
        if record.state is VmState.FAILED:
            yield f"VM {record.name} has failed: {record.reason}"
        if record.held:
            until = f"{record.home} is ready" if record.metadata.held_until == "home" else "a node can take it"
            yield f"VM {record.name} is held until {until}: {record.reason}"
        if is_outside_limit(record, snapshot):
            yield f"VM {record.name} is on {record.node}, outside its limit ({', '.join(record.metadata.node_limit)})"
        if record.node not in snapshot.nodes:
            yield f"VM {record.name} is assigned to {record.node}, which is no node of this cluster"
    yield from rule_problems(snapshot)
    yield from (broken.sentence() for _, broken in sorted(snapshot.broken.items()))
    yield from _skew(snapshot)


def _node_problems(node: NodeView, snapshot: ClusterSnapshot) -> Iterator[str]:
    """What is wrong with a node, without its name."""
    pause = node.record.value.pause
    if pause is not None:
        yield sentence_on(pause, node.name).removeprefix(f"{node.name} ")
    yield from _loss(node, snapshot)
    if node.reserved.leftovers and (node.is_alive or not node.record.value.fenced):
        yield node.reserved.leftover_sentence
    if node.report and node.report.value.unknown_domains:
        yield f"runs domains that PVC does not know: {', '.join(sorted(node.report.value.unknown_domains.values()))}"
    if node.is_alive and node.report:
        for plugin, trouble in sorted(node.report.value.plugin_troubles.items()):
            if trouble.circuit != "closed":
                yield f"leaves out the plugin {plugin} after {trouble.strikes} failures in a row: {trouble.last_error}"
    drain = node.record.value.drain
    if drain and drain.stayed:
        yield f"was drained, but {len(drain.stayed)} of its VMs could not be helped"


def _loss(node: NodeView, snapshot: ClusterSnapshot) -> Iterator[str]:
    """What is wrong with its daemon or its host, and how far it is with that."""
    fence = node.record.value.fence
    if fence is not None and fence.step is FenceStep.FENCING:
        because = f": {fence.problem}" if fence.problem else ""
        yield f"is lost, and nothing has confirmed yet that it is off{because}; its VMs are not recovered"
    elif fence is not None and fence.step is FenceStep.RECOVERING:
        yield "is off, and its VMs are being recovered"
    elif node.liveness == "lost":
        nothing = "; no VM is to run there, so there is nothing to recover" if node.record.value.gone_at else ""
        yield f"is lost: its daemon's session has ended{nothing}"
    elif node.liveness == "left":
        yield "has left: its daemon was stopped, its guests run unsupervised"
    elif is_report_stale(node, snapshot):
        yield "does not report; it takes no new VMs"
    elif node.report and not node.report.value.hypervisor_connected:
        yield "has lost its hypervisor"


def _skew(snapshot: ClusterSnapshot) -> Iterator[str]:
    """Living daemons of different versions, or with different plugins."""
    versions = {node.member.value.version for node in snapshot.nodes.values() if node.member}
    if len(versions) > 1:
        yield f"the nodes run different versions of PVC: {', '.join(sorted(versions))}"
    yield from skews(snapshot)
