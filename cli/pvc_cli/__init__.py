# SPDX-License-Identifier: Apache-2.0
"""The pvc command. It speaks to the API only."""
