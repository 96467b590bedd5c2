# SPDX-License-Identifier: Apache-2.0
"""The node daemon: the shell around the agent's and the leader's decisions."""
