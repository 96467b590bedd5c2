# SPDX-License-Identifier: Apache-2.0
"""Events as JSON to a URL: chats, alerting, ticket systems.

The body, and how a receiver proves that it comes from here, are in docs/notifications.md. A token is sent to a URL
only when both stand in the machine's own file: whoever may change settings of the cluster cannot have it sent to
themselves.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from pvc_core import ConfigSection, PluginOptions
from pvc_plugins.notify.choosing import Choice
from pvc_plugins.notify.messenger import Messenger
from pvc_plugins.notify.outbox import DEFAULT_PACE, Batch, NotDelivered, NotYet, Pace
from pvc_plugins.notify.reaching import certificate_problem, is_loopback, secret_in, trusting
from pvc_plugins.notify.wording import left_out, line, worst

PLUGIN = "webhook"
BODY_VERSION = 1
"""Raised when a field changes its meaning or goes; fields may be added at any time."""
SIGNATURE = "X-PVC-Signature"
DELIVERY = "X-PVC-Delivery"
AGAIN = (408, 425, 429)
"""Answers below 500 that ask for patience."""


# ------------------------------------------------------------------------------------------- configuration


class Machine(msgspec.Struct, frozen=True):
    """[plugin.webhook]."""

    url: str = ""
    """Where to post to, instead of the cluster's `webhook.url`: for a URL that is itself a secret, or with a token."""
    token_file: str = ""
    """A file with a token, sent as `Authorization: Bearer`; needs `url` beside it."""
    secret_file: str = ""
    """A file with the secret that signs each body."""
    ca_file: str = ""
    """Certificates of the authorities to believe, instead of the machine's."""

    def __post_init__(self) -> None:
        _check_url(self.url)
        if self.token_file and not self.url:
            raise ValueError("a token_file needs the url that the token is for beside it")
        parts = urlsplit(self.url)
        if self.token_file and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError("a token is not sent over http: use an https URL")


class Cluster(Choice, frozen=True):
    """The settings `webhook.*`."""

    url: str = ""
    """Where to post to; everybody with a token of the API can read it. Empty: nowhere, unless a machine says."""
    collect_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 1.0
    """How long events are collected after the first one, to be posted together."""
    timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 10.0
    """How long to wait for the receiver."""

    def __post_init__(self) -> None:
        _check_url(self.url)


def _check_url(url: str) -> None:
    """Raises `ValueError`, without the URL."""
    if not url:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("url is no http:// or https:// URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url holds a user or a password: name a token_file in [plugin.webhook] instead")


# ------------------------------------------------------------------------------------------------ the body


class ToldEvent(msgspec.Struct, frozen=True):
    """One event as the receiver reads it."""

    id: str
    at: str
    kind: str
    severity: str
    vm: str
    uuid: str
    node: str
    target: str
    reason: str
    plugin: str
    by: str
    text: str


class Body(msgspec.Struct, frozen=True):
    """What is posted."""

    version: int
    cluster: str
    delivery: str
    severity: str
    text: str
    left_out: int
    events: tuple[ToldEvent, ...]


def body_of(batch: Batch, cluster: str) -> Body:
    """The body; `text` is all of it in words, a line for each event."""
    names = ("id", "at", "kind", "severity", "vm", "uuid", "node", "target", "reason", "plugin", "by")
    told = tuple(ToldEvent(**{name: getattr(e, name) for name in names}, text=line(e)) for e in batch.events)
    lines = [*filter(None, [left_out(batch.left_out)]), *(f"[{cluster}] {each.text}" for each in told)]
    return Body(
        BODY_VERSION, cluster, batch.delivery, worst(batch.events).severity, "\n".join(lines), batch.left_out, told
    )


# --------------------------------------------------------------------------------------------- delivering


@dataclass(frozen=True)
class WebhookReceiver:
    """A URL that is posted to."""

    url: str
    cluster: str
    collect_s: float
    timeout_s: float
    token_file: str = ""
    secret_file: str = ""
    ca_file: str = ""

    @property
    def name(self) -> str:
        """The host alone: paths of such URLs may be secret."""
        return urlsplit(self.url).hostname or ""

    def deliver(self, batch: Batch) -> None:
        """Post it once. Raises `NotDelivered`, or `NotYet` to be tried again."""
        import httpx

        content = msgspec.json.encode(body_of(batch, self.cluster))
        headers = self._headers(batch, content)
        try:
            with (
                httpx.Client(verify=trusting(self.ca_file), timeout=self.timeout_s) as client,
                client.stream("POST", self.url, content=content, headers=headers) as answer,
            ):
                status = answer.status_code
        except httpx.HTTPError as error:
            if problem := certificate_problem(error):
                raise NotDelivered(problem) from None
            raise NotYet(str(error) or type(error).__name__) from None
        if status in AGAIN or status >= 500:
            raise NotYet(f"it answered {status}")
        if not 200 <= status < 300:
            raise NotDelivered(f"it answered {status}")

    def _headers(self, batch: Batch, content: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "pvc", DELIVERY: batch.delivery}
        if self.token_file:
            headers["Authorization"] = f"Bearer {secret_in(self.token_file, 'token_file')}"
        if self.secret_file:
            secret = secret_in(self.secret_file, "secret_file").encode()
            headers[SIGNATURE] = f"sha256={hmac.new(secret, content, hashlib.sha256).hexdigest()}"
        return headers


def receiver_of(options: PluginOptions) -> WebhookReceiver | None:
    """Where these options send events; None when nowhere."""
    machine: Machine = options.machine
    cluster: Cluster = options.cluster
    url = machine.url or cluster.url
    if not url:
        return None
    return WebhookReceiver(
        url,
        cluster.cluster,
        cluster.collect_s,
        cluster.timeout_s,
        token_file=machine.token_file,
        secret_file=machine.secret_file,
        ca_file=machine.ca_file,
    )


class Webhook(Messenger):
    """Events as JSON to a URL; off until `webhook.url` names one. See docs/notifications.md."""

    def __init__(self, pace: Pace = DEFAULT_PACE) -> None:
        super().__init__(PLUGIN, ConfigSection(machine=Machine, cluster=Cluster), receiver_of, pace)


plugin = Webhook()
"""What the entry point names: one a process, since its outbox holds what waits there."""
