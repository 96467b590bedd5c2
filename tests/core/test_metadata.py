# SPDX-License-Identifier: Apache-2.0
"""metadata: what people write is understood or refused by name, and unknown names are told with the known ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc_core.errors import InvalidInput
from pvc_core.metadata import FIELDS, apply_patch, check_metadata, split_names
from pvc_core.model import VmMetadata

NODES, SELECTORS, POLICIES = ("hv1", "hv2", "hv3"), ("mem", "load"), ("restart", "stay")


def checked(metadata: VmMetadata, **more: Any) -> VmMetadata:
    return check_metadata(metadata, NODES, SELECTORS, POLICIES, **more)


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("hv2, hv3", ("hv2", "hv3")),
        ("hv2,hv3", ("hv2", "hv3")),
        ("  hv2\thv3\n", ("hv2", "hv3")),
        ("hv3,hv2,hv3", ("hv3", "hv2")),
        (["hv2, hv3", "hv1"], ("hv2", "hv3", "hv1")),
        (("hv2",), ("hv2",)),
        ("", ()),
        ([], ()),
    ],
)
def test_names_are_split_at_commas_and_spaces_each_once_in_order(written: Any, names: tuple[str, ...]) -> None:
    assert split_names(written, "node_limit") == names


@pytest.mark.parametrize("written", [3, None, {"hv1": 1}, [1], ["hv1", None], True])
def test_what_is_no_list_of_names_is_refused(written: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        split_names(written, "node_limit")
    assert caught.value.field == "node_limit"


@given(
    st.lists(st.text(alphabet="abc019-", min_size=1, max_size=5), unique=True, max_size=5),
    st.sampled_from([",", ", ", " ", " ,\t"]),
)
def test_names_survive_however_they_are_separated(names: list[str], separator: str) -> None:
    assert split_names(separator.join(names), "tags") == tuple(names)


def test_a_patch_changes_the_named_fields_only() -> None:
    before = VmMetadata(priority=3, tags=("a",), shutdown_timeout_s=10)
    after = apply_patch(before, {"shutdown_timeout_s": None, "node_autostart": True})
    assert after == msgspec.structs.replace(before, shutdown_timeout_s=None, node_autostart=True)
    assert apply_patch(before, {}) == before


def test_a_field_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(InvalidInput) as caught:
        apply_patch(VmMetadata(), {"nodelimit": "hv1"})
    assert (caught.value.field, tuple(caught.value.allowed)) == ("nodelimit", FIELDS)


def test_a_migration_method_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(InvalidInput) as caught:
        apply_patch(VmMetadata(), {"migration_method": "teleport"})
    assert (caught.value.field, caught.value.value) == ("migration_method", "teleport")
    assert tuple(caught.value.allowed) == ("live", "shutdown", "none")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_downtime_ms", 0),
        ("max_downtime_ms", 60_001),
        ("max_downtime_ms", 1.5),
        ("priority", -1001),
        ("priority", "1"),
        ("shutdown_timeout_s", 86_401),
        ("node_autostart", 1),
        ("node_selector", None),
        ("node_selector", ["mem"]),
        ("profile", 3),
    ],
)
def test_a_value_out_of_range_or_of_another_type_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        apply_patch(VmMetadata(), {field: value})
    assert (caught.value.field, caught.value.value) == (field, str(value))
    assert caught.value.problem


def test_known_names_pass_unchanged() -> None:
    metadata = VmMetadata(node_limit=("hv1", "hv3"), node_selector="load", recovery_policy="stay", tags=("x",))
    assert checked(metadata) == metadata


def test_no_selector_and_no_policy_mean_the_defaults() -> None:
    assert checked(VmMetadata(node_selector="none", recovery_policy="")) == VmMetadata()


@pytest.mark.parametrize(
    ("metadata", "field", "value", "known"),
    [
        (VmMetadata(node_limit=("hv1", "hv4")), "node_limit", "hv4", NODES),
        (VmMetadata(node_selector="mrm"), "node_selector", "mrm", ("load", "mem")),
        (VmMetadata(recovery_policy="pray"), "recovery_policy", "pray", POLICIES),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(
    metadata: VmMetadata, field: str, value: str, known: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked(metadata)
    assert (caught.value.field, caught.value.value, tuple(caught.value.allowed)) == (field, value, known)
    assert checked(metadata, fields=("priority",)) == metadata, "only what was given is looked up"


def test_a_limit_given_as_one_text_is_split_before_it_is_looked_up() -> None:
    assert checked(VmMetadata(node_limit=("hv1, hv2",))).node_limit == ("hv1", "hv2")
