# SPDX-License-Identifier: Apache-2.0
"""Groups of VMs that are carried over from one snapshot to the next are those that would be made anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pvc_core import layout
from pvc_core.codec import Stored
from pvc_core.model import VmRecord, VmState
from pvc_core.testing.builders import a_snapshot, a_vm
from pvc_core.vm_groups import VmGroups

NODES = st.sampled_from(["hv1", "hv2", "hv3"])
Vms = dict[str, Stored[VmRecord]]


@st.composite
def records(draw: st.DrawFn, number: int) -> VmRecord:
    name = draw(st.sampled_from([f"vm{number}", f"renamed{number}"]))
    node, home, target = draw(NODES), draw(NODES), draw(NODES | st.just(""))
    state = "migrating" if target not in ("", node) else draw(st.sampled_from(["running", "stopped"]))
    return a_vm(
        name, uuid=f"uuid{number}", node=node, home=home, state=state, target=target if state == "migrating" else ""
    )


def is_made_anew(groups: VmGroups) -> bool:
    anew = VmGroups(groups.vms)

    def as_sets(of: VmGroups) -> list[object]:
        unordered = (of.by_home, of.by_state, of.by_target, of.by_active_node)
        return [{key: {id(vm) for vm in group} for key, group in each.items()} for each in unordered]

    return as_sets(groups) == as_sets(anew) and groups.by_node == anew.by_node


@hypothesis_settings(deadline=None, max_examples=150)
@given(st.data())
def test_what_is_carried_over_is_what_would_be_made_anew(data: st.DataObject) -> None:
    vms: Vms = {}
    groups = VmGroups(vms)
    for version in range(4):
        assert is_made_anew(groups)  # asked for, so that it is carried over
        changed = data.draw(st.sets(st.integers(0, 6)))
        vms = dict(vms)
        for number in changed:
            vms.pop(f"uuid{number}", None)
            if data.draw(st.booleans()):
                record = data.draw(records(number))
                vms[record.uuid] = Stored(layout.vm(record.uuid), record, version)
        groups = groups.after(vms, {f"uuid{number}" for number in changed})
    assert is_made_anew(groups)


def test_a_group_of_which_nothing_has_changed_is_the_very_same() -> None:
    first, second = (Stored(f"/vms/{name}", a_vm(name, node=node), 0) for name, node in (("a", "hv1"), ("b", "hv2")))
    before = VmGroups({"a": first, "b": second})
    assert [vm.value.name for vm in before.by_node["hv2"]] == ["b"]
    after = before.after({"a": first}, {"b"})
    assert after.by_node["hv1"] is before.by_node["hv1"]
    assert "hv2" not in after.by_node


def test_groups_of_other_vms_are_not_those_of_a_snapshot() -> None:
    """Whoever replaces the VMs of a snapshot need not think of the groups that came with it."""
    snapshot = a_snapshot(vms=[a_vm("web1", state="stopped")])
    stale = type(snapshot)(vms=snapshot.vms, grouped=VmGroups({}))
    assert stale.uuid_by_name == snapshot.uuid_by_name
    assert list(stale.vms_by_state) == [VmState.STOPPED]
