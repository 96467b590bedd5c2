# SPDX-License-Identifier: Apache-2.0
"""What PVC costs, measured against its budgets. Nothing here runs in the tests."""
