# SPDX-License-Identifier: Apache-2.0
"""Naming a driver that some coordinator lacks is accepted, and said."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from pvc_core.driver_presence import metadata_warnings, selector_warnings
from pvc_core.model import VmMetadata
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.testing.builders import a_node, a_snapshot

EVERYWHERE = ("mem", "load")


def with_drivers(name: str, *selectors: str, coordinator: bool = True, alive: bool = True) -> NodeView:
    """A node whose daemon has these selectors and the policy restart."""
    node = a_node(name, coordinator=coordinator, alive=alive)
    if node.member is None:
        return node
    drivers = {"selectors": (*EVERYWHERE, *selectors), "recovery_policies": ("restart",)}
    return replace(node, member=replace(node.member, value=msgspec.structs.replace(node.member.value, drivers=drivers)))


def cluster(*nodes: NodeView) -> ClusterSnapshot:
    return a_snapshot(nodes)


def test_a_selector_that_every_coordinator_has_needs_no_warning() -> None:
    snapshot = cluster(with_drivers("hv1", "acme"), with_drivers("hv2", "acme"))
    assert selector_warnings(snapshot, "mem:2,acme") == ()


def test_a_selector_that_coordinators_lack_is_named_with_them() -> None:
    assert selector_warnings(cluster(with_drivers("hv1", "acme"), with_drivers("hv2")), "acme") == (
        "hv2 lacks the selector acme; while it leads, the default selector would rank instead",
    )
    many = cluster(*(with_drivers(f"hv{number}") for number in range(1, 6)))
    assert selector_warnings(many, "mem,acme") == (
        "hv1, hv2, hv3 and 2 more lack the selector acme; while one of them leads, "
        "the default selector would rank instead",
    )


def test_only_living_coordinators_matter_and_those_that_say_what_they_have() -> None:
    snapshot = cluster(with_drivers("hv1", coordinator=False), with_drivers("hv2", alive=False), a_node("hv3"))
    assert selector_warnings(snapshot, "acme") == ()


def test_of_metadata_only_what_was_given_is_looked_at() -> None:
    snapshot = cluster(with_drivers("hv1"))
    metadata = VmMetadata(node_selector="acme", recovery_policy="evacuate")
    assert metadata_warnings(snapshot, metadata, ("tags",)) == ()
    assert metadata_warnings(snapshot, metadata, ("recovery_policy",)) == (
        "hv1 lacks the recovery policy evacuate; while it leads, the VM would be held instead",
    )
    assert len(metadata_warnings(snapshot, metadata)) == 2


def test_metadata_that_names_no_driver_needs_no_warning() -> None:
    assert metadata_warnings(cluster(with_drivers("hv1")), VmMetadata()) == ()
