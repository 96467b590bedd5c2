# SPDX-License-Identifier: Apache-2.0
"""token_views: tokens as the API shows them; a secret only once."""

from __future__ import annotations

from pvc_api.authentication import Role
from pvc_api.views import Answer, BrokenRecordView


class TokenView(Answer, frozen=True, kw_only=True):
    """A token without its secret. `expires_at` is empty for one that never expires."""

    name: str
    role: Role
    created_at: str
    expires_at: str
    expired: bool


class TokenList(Answer, frozen=True, kw_only=True):
    """All tokens, and those whose records do not parse."""

    tokens: tuple[TokenView, ...]
    broken: tuple[BrokenRecordView, ...]


class TokenCreated(Answer, frozen=True, kw_only=True):
    """A new token and its secret, which is shown this once."""

    token: TokenView
    secret: str


class TokenRemoved(Answer, frozen=True, kw_only=True):
    """The token is gone."""

    name: str
    reason: str
