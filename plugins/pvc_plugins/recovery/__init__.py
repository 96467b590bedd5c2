# SPDX-License-Identifier: Apache-2.0
"""Recovery policies that ship with PVC."""
