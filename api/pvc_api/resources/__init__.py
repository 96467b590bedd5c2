# SPDX-License-Identifier: Apache-2.0
"""resources: one class per URI template."""
