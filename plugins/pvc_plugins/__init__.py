# SPDX-License-Identifier: Apache-2.0
"""Drivers that ship with PVC, each kind in its own package."""
