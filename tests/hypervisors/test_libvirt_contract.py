# SPDX-License-Identifier: Apache-2.0
"""The libvirt driver does what every hypervisor does, on real hosts with real guests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pvc_core.testing.hypervisor_suite import HypervisorContract

if TYPE_CHECKING:
    from libvirt_testbed import LibvirtTestbed

    from pvc_lab.lab import Lab


@pytest.mark.libvirt
class TestLibvirtHypervisor(HypervisorContract):
    @pytest.fixture
    def testbed(self, lab_of_two: Lab) -> Iterator[LibvirtTestbed]:
        from libvirt_testbed import LibvirtTestbed  # needs libvirt, which may be missing

        testbed = LibvirtTestbed(lab_of_two)
        yield testbed
        testbed.clear()
