# SPDX-License-Identifier: Apache-2.0
"""What the registry does with loaded plugins: open drivers by URL, ask validators."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from pvc_core import HypervisorSite, StoreEntry, VmProposal, hookimpl
from pvc_core.domain_xml import DomainDefinition
from pvc_core.errors import InvalidInput, PluginError
from pvc_core.model import VmMetadata
from pvc_core.plugin_calls import CallLimits
from pvc_core.plugin_loading import FoundPlugin
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_snapshot

# ------------------------------------------------------------------------------------------ opening by URL


class UrlDrivers:
    """Stores that remember what they were opened with."""

    @hookimpl
    def pvc_stores(self) -> list[StoreEntry]:
        return [
            StoreEntry("good", "", self.open),
            StoreEntry("broken", "", self.fail),
            StoreEntry("picky", "", self.refuse),
        ]

    @staticmethod
    def open(url: str) -> Any:
        return ("opened", url)

    @staticmethod
    def fail(url: str) -> Any:
        raise ImportError("no module named libacme")

    @staticmethod
    def refuse(url: str) -> Any:
        raise InvalidInput("store", "has no path")


def test_a_store_is_opened_by_the_scheme_of_its_url() -> None:
    registry = Registry.of(UrlDrivers())
    assert registry.problems == ()
    store: object = registry.open_store("good://host/path")
    assert store == ("opened", "good://host/path")


@pytest.mark.parametrize("url", ["etcd://admin:secret@host", "", "/a/path", "good"])
def test_a_url_of_no_known_driver_is_refused_with_those_that_are_and_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInput) as error:
        Registry.of(UrlDrivers()).open_store(url)
    assert error.value.allowed == ["broken:", "good:", "picky:"]
    assert "secret" not in str(error.value)


def test_a_driver_that_cannot_be_opened_is_a_plugin_error_and_its_own_refusal_passes() -> None:
    registry = Registry.of(acme=UrlDrivers())
    with pytest.raises(PluginError, match="plugin acme: ImportError: no module named libacme"):
        registry.open_store("broken://")
    with pytest.raises(InvalidInput, match="has no path"):
        registry.open_store("picky://")


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("qemu:///system", "libvirt"),
        ("qemu+tcp://10.0.0.1/system", "libvirt"),
        ("libvirt+qemu:///system", "libvirt"),
        ("simulated:///tmp/world", "simulated"),
    ],
)
def test_a_hypervisor_url_names_its_driver_with_any_transport(url: str, driver: str) -> None:
    def opened_by(name: str) -> Callable[[HypervisorSite], Any]:
        return lambda site: (name, site.node)

    registry = Registry.load()
    registry.hypervisors = {name: replace(entry, open=opened_by(name)) for name, entry in registry.hypervisors.items()}
    hypervisor: object = registry.open_hypervisor(HypervisorSite(url, "hv1", lambda node: node))
    assert hypervisor == (driver, "hv1")


# ------------------------------------------------------------------------------------------------ the veto

PROPOSAL = VmProposal(DomainDefinition(None, "web1", 512, 1), VmMetadata())


class Validator:
    """A plugin that answers every proposal in the same way."""

    def __init__(self, answer: Callable[[VmProposal], Any]) -> None:
        self._answer = answer

    @hookimpl
    def pvc_validate_vm(self, proposal: VmProposal) -> Any:
        return self._answer(proposal)


def test_the_objections_of_all_plugins_are_put_together() -> None:
    registry = Registry.of(
        a=Validator(lambda proposal: [f"{proposal.definition.name} has no owner"]),
        b=Validator(lambda proposal: []),
        c=Validator(lambda proposal: ("too small", "too old")),
        d=Validator(lambda proposal: None),
    )
    validation = registry.validate_vm(PROPOSAL, a_snapshot())
    assert sorted((o.plugin, o.reason) for o in validation.objections) == [
        ("a", "web1 has no owner"),
        ("c", "too old"),
        ("c", "too small"),
    ]
    assert "a: web1 has no owner" in validation.sentence
    assert validation.failures == ()


@pytest.mark.parametrize("answer", [lambda _: 1 / 0, lambda _: "no", lambda _: True, lambda _: [1]])
def test_a_validator_that_fails_has_no_say_and_is_reported(answer: Callable[[VmProposal], Any]) -> None:
    validation = Registry.of(acme=Validator(answer)).validate_vm(PROPOSAL, a_snapshot())
    assert validation.objections == ()
    assert [failure.plugin for failure in validation.failures] == ["acme"]


# ------------------------------------------------------------------------------------- plugins that hang


HANG = threading.Event()


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    HANG.clear()
    yield
    HANG.set()


class SlowToOpen:
    """A store driver that never comes back."""

    @hookimpl
    def pvc_stores(self) -> list[StoreEntry]:
        return [StoreEntry("slow", "", lambda url: HANG.wait(60))]  # type: ignore[arg-type, return-value]


class SlowToRegister:
    """A plugin whose registration hook never comes back."""

    @hookimpl
    def pvc_stores(self) -> list[StoreEntry]:
        HANG.wait(60)
        return []


def loaded(load: Callable[[], object]) -> Registry:
    """A registry with the plugin acme, that waits for nothing."""
    limits = CallLimits(load_s=0.05, open_s=0.05)
    return Registry([FoundPlugin("acme", load), FoundPlugin("good", UrlDrivers)], limits=limits)


def test_a_plugin_whose_import_hangs_is_listed_as_failed_and_the_others_load() -> None:
    registry = loaded(lambda: HANG.wait(60))
    assert [(info.name, info.state) for info in registry.plugins] == [("acme", "failed"), ("good", "active")]
    assert "has not answered within 0.05 s" in registry.plugins[0].error
    assert list(registry.stores) == ["broken", "good", "picky"]


def test_a_plugin_whose_registration_hangs_is_listed_as_failed_and_the_others_load() -> None:
    registry = loaded(SlowToRegister)
    assert [(info.name, info.state) for info in registry.plugins] == [("acme", "failed"), ("good", "active")]


def test_a_driver_that_hangs_when_it_is_opened_is_a_plugin_error() -> None:
    with pytest.raises(PluginError, match=r"has not answered within 0\.05 s"):
        loaded(SlowToOpen).open_store("slow://")


def test_that_a_driver_refuses_its_url_is_no_strike_against_its_plugin() -> None:
    registry = Registry.of(acme=UrlDrivers())
    for _ in range(5):
        with pytest.raises(InvalidInput):
            registry.open_store("picky://")
    assert registry.calls.health()["acme"].failures == 0
