# SPDX-License-Identifier: Apache-2.0
"""The ZooKeeper store speaks TLS with a certificate of its own, and to nobody whose certificate it cannot verify."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import make_certificate, serving_with
from pvc_core.errors import StoreUnavailable
from pvc_core.ports import Create, Entry
from pvc_lab.zookeeper import ZooKeeperServer
from pvc_plugins.stores.zookeeper import ZooKeeperStore
from stores.tcp_proxy import TcpProxy

pytestmark = pytest.mark.zookeeper


@pytest.fixture
def secured(zookeeper: ZooKeeperServer, tmp_path: Path) -> Iterator[TcpProxy]:
    """The server behind TLS that asks for the client's certificate."""
    client_certificate, _ = make_certificate(tmp_path, "client")
    context = serving_with(*make_certificate(tmp_path, "server"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client_certificate)
    with TcpProxy((zookeeper.host, zookeeper.port), context) as proxy:
        yield proxy


def store_with(proxy: TcpProxy, folder: Path, ca_name: str) -> ZooKeeperStore:
    files = f"tls_ca_file={folder}/{ca_name}.pem&tls_cert_file={folder}/client.pem&tls_key_file={folder}/client.key"
    return ZooKeeperStore(f"zookeeper://{proxy.hosts}/tls?connect_timeout_s=5&session_timeout_s=60&{files}")


def test_certificates_on_both_sides_are_verified(secured: TcpProxy, tmp_path: Path) -> None:
    store = store_with(secured, tmp_path, "server")
    store.start()
    store.transaction([Create("/a", b"x" * 500_000)])
    assert store.get("/a") == Entry("/a", b"x" * 500_000, 0)
    store.close()


def test_many_answers_in_one_record_are_all_read(secured: TcpProxy, tmp_path: Path) -> None:
    store = store_with(secured, tmp_path, "server")
    store.start()
    keys = [f"/{number:03}" for number in range(500)]
    store.transaction([Create(key, b"") for key in keys])
    assert list(store.get_many(keys)) == keys
    store.close()


def test_a_server_that_cannot_be_verified_is_not_spoken_to(secured: TcpProxy, tmp_path: Path) -> None:
    store = ZooKeeperStore(f"zookeeper://{secured.hosts}/tls?connect_timeout_s=1&tls_ca_file={tmp_path}/client.pem")
    with pytest.raises(StoreUnavailable):
        store.start()
    store.close()
