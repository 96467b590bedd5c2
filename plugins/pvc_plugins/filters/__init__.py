# SPDX-License-Identifier: Apache-2.0
"""Filters that ship with PVC: which nodes may never take a VM."""
