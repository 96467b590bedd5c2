# SPDX-License-Identifier: Apache-2.0
"""A mail server on loopback that keeps what it takes and refuses whom a test says."""

from __future__ import annotations

import ssl
from collections import deque
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from notify.told import PATIENCE_S, Arrivals

LOGIN = ("pvc", "s3cr3t")


@dataclass(frozen=True)
class Taken:
    """One mail."""

    sender: str
    to: tuple[str, ...]
    content: bytes

    @property
    def message(self) -> EmailMessage:
        found = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(found, EmailMessage)
        return found

    @property
    def lines(self) -> list[str]:
        return str(self.message.get_content()).splitlines()


class _OnAnyPort(Controller):
    """With port 0 the kernel chooses, and the first connection, by which it starts to serve, has to know."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._sessions: list[SMTP] = []
        super().__init__(*arguments, **named)

    def factory(self) -> SMTP:
        self._sessions.append(super().factory())
        return self._sessions[-1]

    def hang_up(self) -> None:
        """Close every connection that a client has left open, which stopping does not."""
        for session in self._sessions:
            if session.transport is not None:
                self.loop.call_soon_threadsafe(session.transport.abort)

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class MailServer:
    """answers: to the ends of the mails in turn, 250 after the last. unknown: a recipient that is refused.

    starttls: offers it, and takes mail only after it and a login. tls: speaks it from the beginning.
    """

    def __init__(
        self,
        *answers: str,
        unknown: str = "",
        starttls: ssl.SSLContext | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.arrivals = Arrivals()
        self._answers = deque(answers)
        self._unknown = unknown
        demanding: dict[str, Any] = {}
        if starttls:
            demanding = {"tls_context": starttls, "require_starttls": True, "auth_required": True}
        self._controller = _OnAnyPort(
            self,
            hostname="127.0.0.1",
            port=0,
            ready_timeout=PATIENCE_S,
            ssl_context=tls,
            authenticator=self._authenticate,
            **demanding,
        )

    def _authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, found: Any) -> AuthResult:
        given = (found.login.decode(), found.password.decode()) if isinstance(found, LoginPassword) else ()
        return AuthResult(success=given == LOGIN, handled=False)

    @property
    def port(self) -> int:
        port: int = self._controller.port
        return port

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Envelope, to: str, _options: Any) -> str:
        if to == self._unknown:
            return "550 nobody of that name"
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        answer = self._answers.popleft() if self._answers else "250 OK"
        assert isinstance(envelope.content, bytes)
        self.arrivals.add(Taken(envelope.mail_from or "", tuple(envelope.rcpt_tos), envelope.content))
        return answer

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._controller.hang_up()
        self._controller.stop()
