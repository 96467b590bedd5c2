# SPDX-License-Identifier: Apache-2.0
"""Store drivers: ZooKeeper and the embedded SQLite store."""
