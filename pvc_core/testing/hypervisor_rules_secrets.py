# SPDX-License-Identifier: Apache-2.0
"""hypervisor_rules_secrets: the keys of storage that a host's hypervisor keeps for its guests' disks."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from pvc_core.errors import HypervisorError
from pvc_core.host_secrets import HostSecret
from pvc_core.testing.hypervisor_harness import Bench

KEY, OTHER_KEY = "b25lIGtleQ==", "YW5vdGhlciBrZXk="


def a_secret() -> HostSecret:
    """One that no host knows yet."""
    return HostSecret(str(uuid4()), "ceph", "client.guests <of the tests>", KEY)


class SecretRules:
    """What a driver does with secrets of storage."""

    def test_a_secret_is_known_on_its_host_alone_and_may_be_given_again_with_another_key(self, bench: Bench) -> None:
        secret = a_secret()
        for given in (secret, secret, replace(secret, key=OTHER_KEY)):
            bench.here.ensure_secret(given)
            assert bench.testbed.secrets(bench.testbed.source) == [secret.uuid]
        assert bench.testbed.secrets(bench.testbed.target) == []

    def test_a_secret_replaces_the_one_that_had_its_name_and_no_other(self, bench: Bench) -> None:
        old, other = a_secret(), replace(a_secret(), name="client.other")
        new = replace(old, uuid=str(uuid4()))
        for given in (old, other, new):
            bench.here.ensure_secret(given)
        assert bench.testbed.secrets(bench.testbed.source) == sorted([new.uuid, other.uuid])

    def test_a_secret_ends_with_the_hypervisor_and_can_be_given_again(self, bench: Bench) -> None:
        secret, events = a_secret(), bench.log_of(bench.here)
        bench.here.ensure_secret(secret)
        bench.testbed.take_away(bench.testbed.source)
        bench.until(lambda: not bench.here.connected, "the loss is noticed")
        bench.testbed.bring_back(bench.testbed.source)
        events.wait_for_list_anew()
        assert bench.testbed.secrets(bench.testbed.source) == []
        bench.here.ensure_secret(secret)
        assert bench.testbed.secrets(bench.testbed.source) == [secret.uuid]

    @pytest.mark.parametrize("key", ["", "a key?"])
    def test_what_is_no_key_is_refused_without_telling_it(self, bench: Bench, key: str) -> None:
        with pytest.raises(HypervisorError, match=r"client\.guests") as caught:
            bench.here.ensure_secret(replace(a_secret(), key=key))
        assert not caught.value.connection_lost
        assert not key or key not in caught.value.reason
        assert bench.testbed.secrets(bench.testbed.source) == []
