# SPDX-License-Identifier: Apache-2.0
"""Events as mail: what happens within half a minute is one message, however many VMs it is about.

The mail server stands in the machine's own file, with the login that is for it: by default it is the machine's own
on port 25. Whoever may change settings of the cluster says who gets mail, not to whom a password is shown.
"""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from typing import Annotated, Literal

import msgspec

from pvc_core import ConfigSection, PluginOptions
from pvc_plugins.notify.choosing import Choice
from pvc_plugins.notify.messenger import Messenger
from pvc_plugins.notify.outbox import DEFAULT_PACE, Batch, NotDelivered, NotYet, Pace
from pvc_plugins.notify.reaching import certificate_problem, is_loopback, secret_in, trusting
from pvc_plugins.notify.wording import headline, left_out, line

PLUGIN = "mail"
TIMEOUT_S = 10.0
PORTS = {"starttls": 587, "tls": 465, "none": 25}
FOOTER = "What is configured: pvc cluster settings. What else has happened: pvc events."

Security = Literal["auto", "starttls", "tls", "none"]
ADDRESS = r"^[^\s@<>,;]+@[^\s@<>,;]+$"


# ------------------------------------------------------------------------------------------- configuration


class Machine(msgspec.Struct, frozen=True):
    """[plugin.mail]."""

    server: str = "localhost"
    """The mail server's host."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """Its port; 0: 587 with starttls, 465 with tls, 25 with none."""
    security: Security = "auto"
    """How the connection is protected; auto: starttls, but none with a server on this machine."""
    username: str = ""
    """Whom to log in as; empty: no login."""
    password_file: str = ""
    """A file with the password of `username`."""
    ca_file: str = ""
    """Certificates of the authorities to believe, instead of the machine's."""

    def __post_init__(self) -> None:
        if bool(self.username) != bool(self.password_file):
            raise ValueError("username and password_file need one another")
        if self.username and self.protection == "none" and not is_loopback(self.server):
            raise ValueError("a password is not sent over a connection that nothing protects: use starttls or tls")

    @property
    def protection(self) -> Literal["starttls", "tls", "none"]:
        """`security`, with auto resolved."""
        if self.security != "auto":
            return self.security
        return "none" if is_loopback(self.server) else "starttls"


class Cluster(Choice, frozen=True):
    """The settings `mail.*`."""

    to: tuple[Annotated[str, msgspec.Meta(pattern=ADDRESS, title="mail addresses")], ...] = ()
    """Who gets the mail; empty: nobody."""
    sender: Annotated[str, msgspec.Meta(pattern=ADDRESS + "|^$", title="mail address")] = ""
    """From whom it comes; empty: pvc at the host that sends it."""
    collect_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 30.0
    """How long events are collected after the first one, for one message."""


# --------------------------------------------------------------------------------------------- the message


def message_of(batch: Batch, cluster: str, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """The mail: a line for each event, the time before it."""
    lines = [*filter(None, [left_out(batch.left_out)]), *(f"{event.at} {line(event)}" for event in batch.events)]
    message = EmailMessage()
    message["Subject"] = headline(batch.events, cluster)
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{batch.delivery}@{sender.rpartition('@')[2]}>"  # the same in every attempt
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n".join([*lines, "", FOOTER]) + "\n")
    return message


# --------------------------------------------------------------------------------------------- delivering


@dataclass(frozen=True)
class MailReceiver:
    """People with mail addresses, and the server that takes mail for them."""

    machine: Machine
    to: tuple[str, ...]
    sender: str
    cluster: str
    collect_s: float

    @property
    def name(self) -> str:
        """The people, by way of the server."""
        return f"{', '.join(self.to)} by {self.machine.server}"

    def deliver(self, batch: Batch) -> None:
        """Send it once. Raises `NotDelivered`, or `NotYet` to be tried again."""
        sender = self.sender or f"pvc@{socket.getfqdn()}"
        message = message_of(batch, self.cluster, sender, self.to)
        try:
            with self._session() as session:
                refused = session.send_message(message, sender, self.to)
        except smtplib.SMTPRecipientsRefused as error:
            code = max(code for code, _ in error.recipients.values())
            raise _answered(code, f"it refuses {_said(error.recipients)}") from None
        except smtplib.SMTPResponseException as error:
            raise _answered(error.smtp_code, f"it answered {error.smtp_code} {_text(error.smtp_error)}") from None
        except smtplib.SMTPNotSupportedError as error:
            raise NotDelivered(str(error)) from None
        except OSError as error:  # all other errors of smtplib and of TLS are among them
            if problem := certificate_problem(error):
                raise NotDelivered(problem) from None
            raise NotYet(str(error) or type(error).__name__) from None
        if refused:
            raise NotDelivered(f"others got it, but it refuses {_said(refused)}")

    @contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        """A connection, protected and logged in as configured."""
        machine, how = self.machine, self.machine.protection
        port = machine.port or PORTS[how]
        password = secret_in(machine.password_file, "password_file") if machine.username else ""
        connection = (
            smtplib.SMTP_SSL(machine.server, port, timeout=TIMEOUT_S, context=trusting(machine.ca_file))
            if how == "tls"
            else smtplib.SMTP(machine.server, port, timeout=TIMEOUT_S)
        )
        with connection as session:
            if how == "starttls":
                session.starttls(context=trusting(machine.ca_file))
            if machine.username:
                session.login(machine.username, password)
            yield session


def _answered(code: int, problem: str) -> NotDelivered:
    """4xx asks for patience, 5xx is a refusal."""
    return NotYet(problem) if 400 <= code < 500 else NotDelivered(problem)


def _said(refused: dict[str, tuple[int, bytes]]) -> str:
    """Whom a server refuses, and what it said of the first."""
    code, text = next(iter(refused.values()))
    return f"{', '.join(refused)}: {code} {_text(text)}"


def _text(said: bytes | str) -> str:
    return " ".join((said.decode(errors="replace") if isinstance(said, bytes) else said).split())


def receiver_of(options: PluginOptions) -> MailReceiver | None:
    """To whom these options send mail; None when to nobody."""
    cluster: Cluster = options.cluster
    if not cluster.to:
        return None
    return MailReceiver(options.machine, cluster.to, cluster.sender, cluster.cluster, cluster.collect_s)


class Mail(Messenger):
    """Events as mail, many in one message; off until `mail.to` names somebody. See docs/notifications.md."""

    def __init__(self, pace: Pace = DEFAULT_PACE) -> None:
        super().__init__(PLUGIN, ConfigSection(machine=Machine, cluster=Cluster), receiver_of, pace)


plugin = Mail()
"""What the entry point names: one a process, since its outbox holds what waits there."""
