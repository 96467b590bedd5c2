# SPDX-License-Identifier: Apache-2.0
"""Fence agents: how a lost node is switched off."""
