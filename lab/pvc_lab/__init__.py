# SPDX-License-Identifier: Apache-2.0
"""The lab: a real cluster on one Linux machine, for integration tests and the tour.

Every part is the real one (libvirt, QEMU, ZooKeeper); only the machines around them are
namespaces instead of hosts.
"""
