# SPDX-License-Identifier: Apache-2.0
"""libvirt_driver: real guests, on QEMU/KVM through libvirt.

`hypervisor` is the driver, `options` documents its URL. `connection` says which calls share a connection and why.
"""

from pvc_plugins.hypervisors.libvirt_driver.hypervisor import LibvirtHypervisor

__all__ = ["LibvirtHypervisor"]
