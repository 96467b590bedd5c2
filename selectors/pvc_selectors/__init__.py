# SPDX-License-Identifier: Apache-2.0
"""Selectors that ship with PVC: which candidate is best, one idea per module."""
