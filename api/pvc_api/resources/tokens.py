# SPDX-License-Identifier: Apache-2.0
"""tokens: /token and /token/{name}: who may use the API."""

from __future__ import annotations

import falcon

from pvc_api.bodies import TokenBody
from pvc_api.documentation import documented
from pvc_api.services import Services
from pvc_api.token_views import TokenCreated, TokenList, TokenRemoved, TokenView
from pvc_api.tokens import TokenBook
from pvc_api.views import BrokenRecordView
from pvc_core.token_record import TokenRecord


class TokenCollection:
    """All tokens."""

    def __init__(self, services: Services) -> None:
        self._tokens = services.tokens

    @documented("Tokens", "admin", {200: TokenList})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List tokens by name; never their secrets, which nobody has."""
        records, broken = self._tokens.read_all()
        resp.media = TokenList(
            tokens=tuple(_view_of(record, self._tokens) for record in records),
            broken=tuple(BrokenRecordView(key=b.key, problem=b.problem) for b in broken),
        )

    @documented(
        "Tokens", "admin", {201: TokenCreated}, problems=(409,), body=TokenBody, headers={"Location": "The token's URL"}
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make a token. Its secret is in this answer and nowhere else."""
        body: TokenBody = req.context.json
        record, secret = self._tokens.create(body.name, body.role, body.expires_in_s)
        req.context.outcome = f"token {record.name} with role {record.role}"
        resp.status = 201
        resp.location = f"/api/v1/token/{record.name}"
        resp.media = TokenCreated(token=_view_of(record, self._tokens), secret=secret)


class Token:
    """One token."""

    def __init__(self, services: Services) -> None:
        self._tokens = services.tokens

    @documented("Tokens", "admin", {200: TokenRemoved}, problems=(404, 409))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Remove a token: it is refused from now on."""
        self._tokens.remove(name)
        req.context.outcome = f"token {name} removed"
        resp.media = TokenRemoved(name=name, reason=f"token {name} is removed")


def _view_of(record: TokenRecord, tokens: TokenBook) -> TokenView:
    return TokenView(
        name=record.name,
        role=record.role,
        created_at=record.created_at,
        expires_at=record.expires_at,
        expired=tokens.is_expired(record),
    )
