# SPDX-License-Identifier: Apache-2.0
"""token_record: what the store keeps of an API token."""

from __future__ import annotations

from typing import Literal

import msgspec

from pvc_core.layout import SCHEMA_VERSION


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An API token: only its SHA-256 is kept. `expires_at` is empty for one that never expires."""

    schema: int = SCHEMA_VERSION
    name: str
    role: Literal["viewer", "operator", "admin"]
    sha256: str
    created_at: str = ""
    expires_at: str = ""
