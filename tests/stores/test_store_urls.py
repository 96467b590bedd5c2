# SPDX-License-Identifier: Apache-2.0
"""What the URLs of the two stores may say, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvc_core.errors import InvalidInput
from pvc_plugins.stores.embedded import SqliteStore
from pvc_plugins.stores.zookeeper import ZooKeeperStore
from pvc_plugins.stores.zookeeper_options import ZooKeeperOptions, parse_address


def test_hosts_get_the_default_port_and_the_chroot_a_default() -> None:
    address = parse_address("zookeeper://zk1:2182,zk2,[fd00::3],[fd00::4]:2183")
    assert address.hosts == "zk1:2182,zk2:2181,[fd00::3]:2181,[fd00::4]:2183"
    assert (address.chroot, address.options) == ("/pvc", ZooKeeperOptions())
    assert parse_address("zookeeper://zk1/").chroot == "/pvc"
    assert parse_address("zookeeper://zk1/clusters/one/").chroot == "/clusters/one"


def test_options_are_typed_and_decoded() -> None:
    options = parse_address(
        "zookeeper://zk1?session_timeout_s=12&user=u&password=a%26b+c&tls_check_hostname=false"
    ).options
    assert (options.session_timeout_s, options.password, options.tls_check_hostname) == (12.0, "a&b+c", False)


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("etcd://zk1", "store"),
        ("zk1:2181/pvc", "store"),
        ("zookeeper:///pvc", "host"),
        ("zookeeper://zk1,,zk2", "host"),
        ("zookeeper://zk1:99999", "host"),
        ("zookeeper://user:pw@zk1", "host"),
        ("zookeeper://zk1/a//b", "key"),
        ("zookeeper://zk1?session_timeout=6", "session_timeout"),
        ("zookeeper://zk1?session_timeout_s=soon", "session_timeout_s"),
        ("zookeeper://zk1?session_timeout_s=0", "session_timeout_s"),
        ("zookeeper://zk1?session_timeout_s=nan", "session_timeout_s"),
        ("zookeeper://zk1?session_timeout_s=6&session_timeout_s=7", "session_timeout_s"),
        ("zookeeper://zk1?user=pvc", "password"),
        ("zookeeper://zk1?password=secret", "user"),
        ("zookeeper://zk1?tls_cert_file=/c.pem", "tls_key_file"),
    ],
)
def test_a_wrong_zookeeper_url_is_refused_naming_what_is_wrong(url: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ZooKeeperStore(url)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("zookeeper:///a", "store"),
        ("sqlite://", "store"),
        ("sqlite:///", "store"),
        ("sqlite://relative/store.db", "store"),
        ("sqlite:///a?timeout=1", "timeout"),
        ("sqlite:///a?synchronous=off", "synchronous"),
        ("sqlite:///a?request_timeout_s=-1", "request_timeout_s"),
    ],
)
def test_a_wrong_sqlite_url_is_refused_naming_what_is_wrong(url: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        SqliteStore(url)
    assert caught.value.field == field


def test_an_unknown_option_is_answered_with_the_known_ones_and_no_password() -> None:
    with pytest.raises(InvalidInput) as caught:
        ZooKeeperStore("zookeeper://zk1?user=pvc&password=secret&sessions=1")
    assert "request_timeout_s" in caught.value.allowed
    assert "secret" not in str(caught.value)


def test_a_tls_file_that_cannot_be_read_is_named_at_start(tmp_path: Path) -> None:
    store = ZooKeeperStore(f"zookeeper://127.0.0.1:1?tls_ca_file={tmp_path}/none.pem")
    with pytest.raises(InvalidInput) as caught:
        store.start()
    assert caught.value.field == "tls_ca_file"
