# SPDX-License-Identifier: Apache-2.0
"""The simulator: the daemon's own code on a virtual clock, on hosts whose power and network can be cut."""
