# SPDX-License-Identifier: Apache-2.0
"""The storage backend `ceph`: volumes as RBD images of a Ceph cluster, by librados and librbd."""
