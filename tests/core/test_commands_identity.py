# SPDX-License-Identifier: Apache-2.0
"""commands: a VM's name, definition and metadata, and the end of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from stored_cluster import ANY, OTHER_UUID, UUID, Misfits, Xml, limited, refused_without_a_trace, vm

from pvc_core import layout
from pvc_core.commands import Commands
from pvc_core.domain_xml import parse_domain
from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, Refused
from pvc_core.model import VmMetadata, VmRecord, VmState
from pvc_core.ports import Set
from pvc_core.testing.counting_store import CountingStore
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.vm_states import VmEvent

S, E = VmState, VmEvent
DISK = "<disk><source file='/x.img'/><target dev='vdb'/></disk>"


# ---------------------------------------------------------------------------------- rename, redefine, undefine


def test_rename_changes_exactly_the_name(stopped: Any) -> None:
    before = stopped.content()
    outcome = stopped.commands.rename("web1", "db1")
    after = stopped.content()
    assert outcome.reason == "renamed from web1"
    assert set(before) - set(after) == {layout.vm_name("web1")}
    assert {key for key in set(after) - set(before) if not key.startswith("/events/")} == {layout.vm_name("db1")}
    assert after[layout.vm_name("db1")][0] == UUID.encode()
    text = before[layout.definition(UUID)][0].decode()
    assert after[layout.definition(UUID)][0].decode() == text.replace("<name>web1</name>", "<name>db1</name>")
    changed = {key for key in set(before) & set(after) if before[key] != after[key]}
    assert changed == {layout.vm(UUID), layout.definition(UUID)}
    assert msgspec.structs.replace(vm(stopped, "db1"), name="", reason="", changed_at="") == msgspec.structs.replace(
        decode_vm(before), name="", reason="", changed_at=""
    )


def decode_vm(content: dict[str, tuple[bytes, int]]) -> VmRecord:
    return msgspec.json.decode(content[layout.vm(UUID)][0], type=VmRecord)


@pytest.mark.parametrize("name", ["os", "name", "domain", "vcpu", "uuid"])
def test_a_vm_called_like_an_element_survives_a_rename(three: Any, name: str) -> None:
    text = f"<domain><name>{name}</name><memory>65536</memory><os><type>hvm</type></os><vcpu>1</vcpu></domain>"
    three.commands.define(text, ANY)
    three.commands.rename(name, "web1")
    definition = three.commands.definition("web1")
    assert parse_domain(definition).name == "web1"
    assert "<os><type>hvm</type></os>" in definition
    three.commands.rename("web1", name)
    assert parse_domain(three.commands.definition(name)).name == name


def test_rename_to_a_name_that_is_taken_is_refused_also_when_another_process_took_it(stopped: Any, xml: Xml) -> None:
    blind = stopped.new_commands()
    blind._view.close()
    stopped.commands.define(xml("web2"), ANY)
    with refused_without_a_trace(stopped, AlreadyExists, "web2"):
        stopped.commands.rename("web1", "web2")
    with refused_without_a_trace(stopped, AlreadyExists, "web2"):
        blind.rename("web1", "web2")


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, UUID, "é"])
def test_rename_to_an_impossible_name_is_refused(stopped: Any, name: str) -> None:
    with refused_without_a_trace(stopped, InvalidInput):
        stopped.commands.rename("web1", name)


def test_only_a_vm_that_is_off_is_renamed_and_its_own_name_is_no_change(running: Any) -> None:
    with refused_without_a_trace(running, Refused, "only a VM that is off"):
        running.commands.rename("web1", "db1")
    assert not running.commands.rename("web1", "web1").changed


def test_a_definition_or_name_that_somebody_else_changes_meanwhile_is_not_overwritten(stopped: Any, xml: Xml) -> None:
    """Both were read before the decision, so their change between the two is found by the transaction."""
    for command in (
        lambda commands: commands.rename("web1", "db1"),
        lambda commands: commands.undefine("web1"),
        lambda commands: commands.redefine("web1", xml("web1", 300)),
    ):
        store = Meddling(stopped, layout.definition(UUID))
        with pytest.raises(Refused, match="changed by somebody else at the same time"):
            command(Commands(stopped.view, store, stopped.registry, ManualClock()))


class Meddling(CountingStore):
    """A store in which another process writes a key right after this one has read it."""

    def __init__(self, cluster: Any, key: str) -> None:
        super().__init__(cluster.store)
        self.meddled_with = key
        self._cluster = cluster

    def get(self, key: str) -> Any:
        found = super().get(key)
        self._meddle([key])
        return found

    def get_many(self, keys: Any) -> Any:
        found = super().get_many(keys)
        self._meddle(keys)
        return found

    def _meddle(self, keys: Any) -> None:
        if self.meddled_with in keys:
            entry = self.inner.get(self.meddled_with)
            assert entry is not None
            self.inner.transaction([Set(entry.key, entry.data, entry.version)])


def test_redefine_keeps_name_and_uuid_and_takes_over_the_size(stopped: Any, xml: Xml, misfits: Misfits) -> None:
    stopped.commands.redefine("web1", xml("other-name", 1024, 3, OTHER_UUID))
    record, definition = vm(stopped), parse_domain(stopped.commands.definition("web1"))
    assert (record.name, record.uuid, record.memory_mib, record.vcpus) == ("web1", UUID, 1024, 3)
    assert (definition.name, definition.uuid) == ("web1", UUID)
    assert misfits(stopped.snapshot()) == []


def test_a_definition_without_disks_of_its_own_counts_from_when_the_guest_that_had_some_is_off(
    stopped: Any, xml: Xml
) -> None:
    commands = stopped.commands
    with_disk = xml("web1").replace("</domain>", f"<devices>{DISK}</devices></domain>")
    assert vm(stopped).only_volumes
    commands.redefine("web1", with_disk)
    assert not vm(stopped).only_volumes
    commands.start("web1")
    commands.redefine("web1", xml("web1"))
    assert not vm(stopped).only_volumes, "its guest still has the disk"
    stopped.happens("web1", E.POWERED_OFF)
    commands.redefine("web1", xml("web1"))
    assert vm(stopped).only_volumes


def test_redefine_beyond_what_the_node_has_is_refused(stopped: Any, xml: Xml) -> None:
    stopped.commands.define(xml("web2", 3000), limited("hv1"))
    with refused_without_a_trace(stopped, Refused, "would not fit on hv1 any more: needs 600 MiB"):
        stopped.commands.redefine("web1", xml("web1", 600))


def test_more_vcpus_than_the_node_may_be_given_are_refused_and_no_others(stopped: Any, xml: Xml) -> None:
    stopped.commands.change_settings({"vcpu_overcommit": "0.25"})
    with refused_without_a_trace(stopped, Refused, "would not fit on hv1 any more: needs 3 vCPUs, 2 of 2 are free"):
        stopped.commands.redefine("web1", xml("web1", vcpus=3))
    stopped.commands.redefine("web1", xml("web1", vcpus=2))
    stopped.commands.change_settings({"vcpu_overcommit": "0.125"})
    stopped.commands.redefine("web1", xml("web1", 1024, 2))


def test_redefine_of_a_running_vm_says_when_it_takes_effect_and_the_same_one_changes_nothing(
    running: Any, xml: Xml
) -> None:
    assert running.commands.redefine("web1", xml("web1", 300)).reason.endswith("it takes effect at the next start")
    assert not running.commands.redefine("web1", xml("web1", 300)).changed


def test_undefine_leaves_nothing_of_the_vm_but_its_events(stopped: Any) -> None:
    stopped.commands.undefine("web1")
    left = [key for key, (data, _) in stopped.content().items() if UUID in key or UUID.encode() in data]
    assert [key for key in left if not key.startswith("/events/")] == []
    with pytest.raises(NotFound):
        stopped.commands.undefine("web1")


def test_undefine_of_a_vm_that_is_not_off_is_refused(running: Any) -> None:
    for command in (None, running.commands.restart, running.commands.shutdown, running.commands.start):
        if command:
            command("web1")
        with refused_without_a_trace(running, Refused, "stop it before it is undefined"):
            running.commands.undefine("web1")


def test_a_name_and_uuid_that_were_given_up_can_be_used_again(stopped: Any, xml: Xml) -> None:
    stopped.commands.undefine("web1")
    assert stopped.commands.define(xml("web1", uuid=UUID), ANY).vm.uuid == UUID


# ------------------------------------------------------------------------------------------------ metadata


def test_a_change_of_metadata_touches_only_the_fields_that_are_named(stopped: Any) -> None:
    before = vm(stopped).metadata
    stopped.commands.change_metadata("web1", {"priority": 7, "tags": "db, prod", "shutdown_timeout_s": 30})
    changed = msgspec.structs.replace(before, priority=7, tags=("db", "prod"), shutdown_timeout_s=30)
    assert vm(stopped).metadata == changed
    stopped.commands.change_metadata("web1", {"shutdown_timeout_s": None})
    assert vm(stopped).metadata == msgspec.structs.replace(changed, shutdown_timeout_s=None)


def test_the_same_metadata_again_changes_nothing(stopped: Any) -> None:
    stopped.commands.change_metadata("web1", {"priority": 7})
    before = stopped.content()
    assert not stopped.commands.change_metadata("web1", {"priority": 7, "node_selector": "none"}).changed
    assert stopped.content() == before


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"priority": "high"}, "priority"),
        ({"priority": 1001}, "priority"),
        ({"max_downtime_ms": 0}, "max_downtime_ms"),
        ({"shutdown_timeout_s": -1}, "shutdown_timeout_s"),
        ({"migration_method": "teleport"}, "migration_method"),
        ({"node_limit": 3}, "node_limit"),
        ({"node_limit": {"hv1": 1}}, "node_limit"),
        ({"node_limit": ["hv9"]}, "node_limit"),
        ({"tags": [3]}, "tags"),
        ({"node_autostart": "yes"}, "node_autostart"),
        ({"colour": "red"}, "colour"),
        ({"priority": 7, "node_selector": "best"}, "node_selector"),
    ],
)
def test_metadata_that_cannot_be_is_refused_as_a_whole_and_named(
    stopped: Any, patch: dict[str, Any], field: str
) -> None:
    with refused_without_a_trace(stopped, InvalidInput) as caught:
        stopped.commands.change_metadata("web1", patch)
    assert caught.value.field == field


def test_a_limit_that_excludes_where_the_vm_runs_is_accepted_and_shown_as_violated(running: Any) -> None:
    outcome = running.commands.change_metadata("web1", {"node_limit": "hv2"})
    assert (outcome.vm.state, outcome.vm.node) == (S.RUNNING, "hv1")
    assert outcome.reason == "metadata changed; hv1, where it is now, is outside its limit until it is moved"
    assert running.commands.migrate("web1").vm.target == "hv2"


def test_metadata_may_still_be_changed_when_a_node_or_plugin_named_in_it_has_gone(stopped: Any) -> None:
    gone = msgspec.structs.replace(
        vm(stopped), metadata=VmMetadata(node_limit=("hv1", "hv9"), node_selector="acme", recovery_policy="acme")
    )
    stopped.put(layout.vm(UUID), gone)
    outcome = stopped.commands.change_metadata("web1", {"priority": 7})
    assert outcome.vm.metadata == msgspec.structs.replace(gone.metadata, priority=7)
    with refused_without_a_trace(stopped, InvalidInput):
        stopped.commands.change_metadata("web1", {"node_limit": "hv1,hv9"})
