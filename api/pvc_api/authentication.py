# SPDX-License-Identifier: Apache-2.0
"""authentication: who is asking and what their role allows.

A request carries a bearer token, or it comes from a process on a cluster node that may read the store anyway
(`LocalAuthority`). A resource says per method which role it takes; what it does not say takes an admin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import falcon

from pvc_core.errors import Forbidden, Unauthenticated

Role = Literal["viewer", "operator", "admin"]
RANKS: dict[Role, int] = {"viewer": 0, "operator": 1, "admin": 2}


@dataclass(frozen=True)
class Identity:
    """Whoever is asking: the token's name, or the local user's, and the role."""

    name: str
    role: Role


NOBODY = Identity("", "viewer")
"""Of requests that need no token, and of those whose token is refused."""


class Authenticator(Protocol):
    """Finds out who sends a request."""

    def authenticate(self, authorization: str | None) -> Identity:
        """Who has this Authorization header. Raises `Unauthenticated`."""


class TokenCheck(Protocol):
    """Knows the tokens."""

    def identify(self, secret: str) -> Identity | None:
        """Whose secret this is; None when it is nobody's (any more)."""


class BearerAuthenticator:
    """Accepts `Authorization: Bearer <token>` and nothing else."""

    def __init__(self, tokens: TokenCheck) -> None:
        self._tokens = tokens

    def authenticate(self, authorization: str | None) -> Identity:
        scheme, _, secret = (authorization or "").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise Unauthenticated
        identity = self._tokens.identify(secret)
        if identity is None:
            raise Unauthenticated
        return identity


class LocalAuthority:
    """Everything is allowed: whoever runs this process can write to the store without asking an API."""

    def __init__(self, user: str) -> None:
        self._identity = Identity(f"local:{user}", "admin")

    def authenticate(self, authorization: str | None) -> Identity:
        return self._identity


class Resource:
    """The root of all resources. `roles`: the least role per method."""

    roles: dict[str, Role] = {}
    is_public = False
    """Needs no token at all."""

    def role_for(self, method: str) -> Role:
        """The least role that may use this method."""
        return self.roles.get(method, "admin")


def authorise(resource: object, method: str, authenticator: Authenticator, authorization: str | None) -> Identity:
    """Who is asking, if they may. Raises `Unauthenticated` or `Forbidden`."""
    if isinstance(resource, Resource) and resource.is_public:
        return NOBODY
    identity = authenticator.authenticate(authorization)
    if method not in falcon.COMBINED_METHODS or (isinstance(resource, Resource) and not _serves(resource, method)):
        return identity  # answered with 405, which needs no role
    needed: Role = resource.role_for(method) if isinstance(resource, Resource) else "admin"
    if RANKS[identity.role] < RANKS[needed]:
        raise Forbidden(identity.role, needed)
    return identity


def _serves(resource: Resource, method: str) -> bool:
    return hasattr(resource, f"on_{method.lower()}")
