# SPDX-License-Identifier: Apache-2.0
"""zookeeper_options: what a `zookeeper://` URL says: servers, chroot, timeouts, credentials, TLS files."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import Annotated

import msgspec

from pvc_core.errors import InvalidInput
from pvc_core.store_keys import check_key
from pvc_plugins.stores.url import StoreUrl, parse_url, typed_options

SCHEME = "zookeeper"
DEFAULT_PORT = 2181
DEFAULT_CHROOT = "/pvc"

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]@]+)(:(?P<port>[0-9]{1,5}))?")

Seconds = Annotated[float, msgspec.Meta(ge=0.1, le=3600)]
SessionSeconds = Annotated[float, msgspec.Meta(ge=1, le=3600)]


class ZooKeeperOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options after `?`, with their defaults. `user` and `password`: digest, and an ACL that admits only them."""

    session_timeout_s: SessionSeconds = 6.0
    connect_timeout_s: Seconds = 10.0
    request_timeout_s: Seconds = 10.0
    user: str = ""
    password: str = ""
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_check_hostname: bool = True


@dataclass(frozen=True, slots=True)
class ZooKeeperAddress:
    """Where the servers are and under which path PVC keeps its keys."""

    hosts: str
    chroot: str
    options: ZooKeeperOptions

    def tls_context(self) -> ssl.SSLContext | None:
        """How to speak TLS; None without TLS. Raises `InvalidInput` for files that cannot be used."""
        o = self.options
        if not (o.tls_ca_file or o.tls_cert_file):
            return None
        field, path = "tls_ca_file", o.tls_ca_file
        try:
            context = ssl.create_default_context(cafile=path or None)  # None: the system's
            if o.tls_cert_file:
                field, path = "tls_cert_file", o.tls_cert_file
                context.load_cert_chain(path, o.tls_key_file)
        except OSError as error:
            raise InvalidInput(field, f"cannot be used: {error.strerror or error}", path) from error
        context.check_hostname = o.tls_check_hostname
        return context


def parse_address(url: str) -> ZooKeeperAddress:
    """Read `zookeeper://host1:2181,host2,host3/chroot?options`; the chroot defaults to `/pvc`.

    Raises `InvalidInput` naming what is wrong.
    """
    parts = parse_url(url, SCHEME)
    hosts = ",".join(_host(text) for text in parts.authority.split(","))
    chroot = parts.path.rstrip("/") or DEFAULT_CHROOT
    check_key(chroot)
    return ZooKeeperAddress(hosts, chroot, _options(parts))


def _host(text: str) -> str:
    match = _HOST.fullmatch(text)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise InvalidInput("host", "is not a host of a zookeeper:// URL", text, ("HOST", "HOST:PORT", "[IPV6]:PORT"))
    return f"{match['host']}:{port}"


def _options(parts: StoreUrl) -> ZooKeeperOptions:
    options = typed_options(parts, ZooKeeperOptions)
    if bool(options.user) != bool(options.password):
        raise InvalidInput("password" if options.user else "user", "is missing: both or neither are needed")
    if bool(options.tls_cert_file) != bool(options.tls_key_file):
        missing = "tls_key_file" if options.tls_cert_file else "tls_cert_file"
        raise InvalidInput(missing, "is missing: a certificate and its key go together")
    return options
