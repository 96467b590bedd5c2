# SPDX-License-Identifier: Apache-2.0
"""The storage backends that PVC brings: each a sub-package that knows the core and no other backend."""
