# SPDX-License-Identifier: Apache-2.0
"""Hypervisor drivers: libvirt and the simulated one."""
