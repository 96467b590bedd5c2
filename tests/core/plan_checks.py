# SPDX-License-Identifier: Apache-2.0
"""plan_checks: what every plan is held against: a replay that adds up what is used, and a search of everything."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence

from pvc_core.model import NodeMode, VmRecord, VmState
from pvc_core.planner import Plan, Wish
from pvc_core.snapshot import ClusterSnapshot

Places = tuple[str, ...]
Amount = tuple[int, int]
"""MiB and vCPUs."""


def room_of(snapshot: ClusterSnapshot) -> dict[str, Amount]:
    """What each node may hold in all, by its report and the settings."""
    settings = snapshot.settings
    return {
        name: (
            int((view.report.value.memory_total_mib - settings.memory_reserve_mib) * settings.memory_overcommit),
            int(view.report.value.cores * settings.vcpu_overcommit) if settings.vcpu_overcommit else sys.maxsize,
        )
        for name, view in snapshot.nodes.items()
        if view.report
    }


def _size(vm: VmRecord) -> Amount:
    return (vm.memory_mib, vm.vcpus)


def _plus(one: Amount, other: Amount, times: int = 1) -> Amount:
    return (one[0] + times * other[0], one[1] + times * other[1])


def _within(used: Amount, room: Amount) -> bool:
    return used[0] <= room[0] and used[1] <= room[1]


def replay(plan: Plan, snapshot: ClusterSnapshot, shuffles: int = 0) -> dict[str, str]:
    """Take the steps, as many at once as `after` allows, in several orders: where the VMs are in the end.

    At every moment a migrating VM counts on both sides, and no node that is given a VM holds more than it may.
    """
    places = _replay_once(plan, snapshot, random.Random(0))
    for seed in range(1, shuffles + 1):
        assert _replay_once(plan, snapshot, random.Random(seed)) == places
    return places


def _replay_once(plan: Plan, snapshot: ClusterSnapshot, rng: random.Random) -> dict[str, str]:
    room = room_of(snapshot)
    used = {name: (view.reserved.memory_mib, view.reserved.vcpus) for name, view in snapshot.nodes.items()}
    vms = {vm.value.name: vm.value for vm in snapshot.vms.values()}
    places = {name: vm.node for name, vm in vms.items()}
    waiting, under_way, done = set(range(len(plan.steps))), set[int](), set[int]()
    while waiting or under_way:
        startable = [index for index in sorted(waiting) if set(plan.steps[index].after) <= done]
        if startable and (not under_way or rng.random() < 0.7):
            index = rng.choice(startable)
            step = plan.steps[index]
            vm = vms[step.vm]
            assert places[step.vm] == step.source
            limit = vm.metadata.node_limit
            assert not limit or step.target in limit
            assert snapshot.nodes[step.target].mode is NodeMode.READY
            used[step.target] = _plus(used[step.target], _size(vm))
            assert _within(used[step.target], room[step.target]), f"step {index} does not fit: {plan.steps}"
            waiting.remove(index)
            under_way.add(index)
        else:
            assert under_way, "steps wait for one another"
            index = rng.choice(sorted(under_way))
            step = plan.steps[index]
            used[step.source] = _plus(used[step.source], _size(vms[step.vm]), -1)
            places[step.vm] = step.target
            under_way.remove(index)
            done.add(index)
    return places


def fewest_moves(wishes: Sequence[Wish], snapshot: ClusterSnapshot, may_move_others: bool) -> tuple[int, int]:
    """How many of the wishes can come true at most, and in how few migrations, by trying every order of all moves."""
    asked = [wish.request.uuid for wish in wishes]
    movable = list(asked)
    if may_move_others:
        movable += [
            uuid for uuid, vm in snapshot.vms.items() if uuid not in asked and vm.value.state is VmState.RUNNING
        ]
    start: Places = tuple(snapshot.vms[uuid].value.node for uuid in movable)
    best, seen, queue = (0, 0), {start}, deque([(start, 0)])
    while queue:
        places, moves = queue.popleft()
        fulfilled = sum(_is_fulfilled(wish, place) for wish, place in zip(wishes, places, strict=False))
        if fulfilled > best[0]:
            best = (fulfilled, moves)
        for after in _neighbours(wishes, movable, places, snapshot):
            if after not in seen:
                seen.add(after)
                queue.append((after, moves + 1))
    return best


def _is_fulfilled(wish: Wish, place: str) -> bool:
    return place == wish.to if wish.to else place != wish.request.current_node


def _neighbours(
    wishes: Sequence[Wish], movable: Sequence[str], places: Places, snapshot: ClusterSnapshot
) -> Iterator[Places]:
    room = room_of(snapshot)
    vms = [snapshot.vms[uuid].value for uuid in movable]
    used = {name: (view.reserved.memory_mib, view.reserved.vcpus) for name, view in snapshot.nodes.items()}
    for vm, place in zip(vms, places, strict=True):
        used[vm.node] = _plus(used[vm.node], _size(vm), -1)
        used[place] = _plus(used[place], _size(vm))
    for index, vm in enumerate(vms):
        exclude = wishes[index].request.exclude if index < len(wishes) else frozenset()
        for name, view in snapshot.nodes.items():
            limit = vm.metadata.node_limit
            if name == places[index] or name in exclude or (limit and name not in limit):
                continue
            if view.mode is NodeMode.READY and _within(_plus(used[name], _size(vm)), room.get(name, (0, 0))):
                yield (*places[:index], name, *places[index + 1 :])
