# SPDX-License-Identifier: Apache-2.0
"""What no kind of network can have is refused before any driver is asked."""

from __future__ import annotations

import pytest

from pvc_core.errors import InvalidInput
from pvc_core.networks import NetworkSpec, check_network


@pytest.mark.parametrize("name", ["a", "7", "Blue.2_x+y-z", "n" * 64])
def test_a_network_has_the_names_that_other_things_have(name: str) -> None:
    check_network(NetworkSpec(name))


@pytest.mark.parametrize("name", ["", ".", "-a", "a b", "a/b", "a\n", "ä", "n" * 65])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_network(NetworkSpec(name))
    assert (refused.value.field, refused.value.value) == ("name", name)


@pytest.mark.parametrize("mtu", [1280, 1500, 9000, 65535])
def test_an_mtu_is_one_that_ipv6_works_with_and_a_link_can_have(mtu: int) -> None:
    check_network(NetworkSpec("blue", mtu))


@pytest.mark.parametrize("mtu", [-1, 0, 1279, 65536])
def test_another_mtu_is_refused(mtu: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_network(NetworkSpec("blue", mtu))
    assert (refused.value.field, refused.value.value) == ("mtu", str(mtu))
