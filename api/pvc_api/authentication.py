# SPDX-License-Identifier: Apache-2.0
"""authentication: who is asking and what their role allows.

A request carries a bearer token, or it comes from a process on a cluster node that may write to the store anyway
(`LocalAuthority`). Each method of a resource says which role it takes; one that does not say takes an admin.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol

from pvc_core.errors import Forbidden, Unauthenticated

Role = Literal["viewer", "operator", "admin"]
Access = Literal["public", "viewer", "operator", "admin"]
"""The least role that may use a method; `public`: no token is needed."""

ACCESS_ATTRIBUTE = "pvc_access"
"""Where `documentation.documented` notes a method's access."""

RANKS: dict[Role, int] = {"viewer": 0, "operator": 1, "admin": 2}


@dataclass(frozen=True)
class Identity:
    """Whoever is asking: the token's name, or the local user's, and the role."""

    name: str
    role: Role

    @property
    def author(self) -> str:
        """As whom events name it."""
        return self.name if not self.name or self.name.startswith(LOCAL_PREFIX) else f"api:{self.name}"


LOCAL_PREFIX = "local:"
"""Before the name of a user of this machine; no token's name has a colon."""

NOBODY = Identity("", "viewer")
"""Of requests that need no token, and of those whose token is refused."""


_ACTING: ContextVar[Identity] = ContextVar("acting", default=NOBODY)


def acting() -> Identity:
    """Whose request this thread serves."""
    return _ACTING.get()


def act_as(identity: Identity) -> None:
    """This thread serves a request of this identity, until the next call."""
    _ACTING.set(identity)


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
        self._identity = Identity(f"{LOCAL_PREFIX}{user}", "admin")

    def authenticate(self, authorization: str | None) -> Identity:
        return self._identity


def access_to(resource: object, method: str) -> Access:
    """What the method takes. One that the resource does not serve is answered with 405, to whoever has a token."""
    responder = getattr(resource, f"on_{method.lower()}", None)
    if responder is None:
        return "viewer"
    access: Access = getattr(responder, ACCESS_ATTRIBUTE, "admin")
    return access


def check_role(identity: Identity, needed: Role) -> None:
    """Raise `Forbidden` unless the identity's role is the needed one or a higher one."""
    if RANKS[identity.role] < RANKS[needed]:
        raise Forbidden(identity.role, needed)
