# SPDX-License-Identifier: Apache-2.0
"""What is configured for a plugin: what it may declare, what an operator may set, and what each mistake costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import pytest

from acme_plugin import Acme, Cluster, Machine
from pvc_core import ConfigSection, FilterEntry, PluginOptions, SelectorEntry, Settings, VmProposal, hookimpl
from pvc_core.codec import decode, encode
from pvc_core.errors import InvalidInput
from pvc_core.events import EventKind
from pvc_core.placement import Placer
from pvc_core.plugin_configuration import PluginConfiguration, checked_section
from pvc_core.plugin_types import NO_OPTIONS
from pvc_core.ports import Entry
from pvc_core.registry import PluginInfo, Registry
from pvc_core.testing.builders import a_node, a_request, a_snapshot

BUILT_IN = Registry.load(disabled_env="")


class Neighbour:
    @hookimpl
    def pvc_recovery_policies(self) -> list[Any]:
        return []


def loaded(**sections: object) -> tuple[Registry, PluginInfo, Acme]:
    acme = Acme()
    registry = Registry.of(acme=acme, sections=sections)
    return registry, registry.plugins[0], acme


def with_acme(**values: Any) -> Settings:
    return Settings(plugins={"acme": values})


# ------------------------------------------------------------------------------------------- this machine's


def test_a_plugin_registers_drivers_by_what_its_machine_is_configured_for() -> None:
    registry, _, acme = loaded(acme={"port": 81, "sources": {"rank": {"path": "/x"}}})
    assert list(registry.selectors) == ["acme", "rank"]
    [options] = acme.seen
    assert (options.machine.port, options.machine.sources["rank"].patience_s) == (81, 1.0)
    assert options.cluster is None, "no cluster is known when plugins are loaded"


def test_a_plugin_that_is_not_configured_has_its_defaults() -> None:
    registry, info, _ = loaded()
    assert (info.state, registry.problems) == ("active", ())
    assert registry.options("acme", Settings()) == PluginOptions(Machine(), Cluster())


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"prot": 1}, "plugin.acme.prot: is not a key of this; is port meant?"),
        ({"colour": 1}, "plugin.acme.colour: is not a key of this (allowed: password, port, sources)"),
        ({"port": "80"}, "plugin.acme.port '80': expected int, got str (allowed: whole number, 1 to 65535)"),
        ({"port": 0}, "plugin.acme.port '0': expected int >= 1 (allowed: whole number, 1 to 65535)"),
        ({"sources": {"a": {}}}, "plugin.acme.sources.a.path: is required"),
        ({"sources": {"a": {"pahts": ""}}}, "plugin.acme.sources.a.pahts: is not a key of this; is path meant?"),
        ({"sources": []}, "plugin.acme.sources: expected object, got array (allowed: table)"),
        (5, "plugin.acme '5': expected object, got int (allowed: table)"),
    ],
)
def test_a_mistake_in_a_plugins_section_costs_that_plugin_and_nothing_else(section: object, problem: str) -> None:
    registry = Registry.of(acme=Acme(), neighbour=Neighbour(), sections={"acme": section})
    acme, neighbour = registry.plugins
    assert (acme.state, neighbour.state) == ("failed", "active")
    assert acme.error == f"its configuration is wrong: {problem}"
    assert dict(registry.selectors) == {}


def test_a_section_for_a_plugin_that_is_not_installed_is_reported_with_the_one_that_was_meant() -> None:
    registry, _, _ = loaded(acne={}, acme={})
    assert registry.problems == ("[plugin.acne] of the configuration: no plugin is called that; is acme meant?",)


def test_a_section_for_a_plugin_without_options_is_reported_and_the_plugin_goes_on() -> None:
    registry = Registry.of(neighbour=Neighbour(), sections={"neighbour": {"x": 1}})
    [info] = registry.plugins
    assert info.state == "active"
    assert info.error == "[plugin.neighbour] of the configuration is not used: it has no options of a machine"


def test_a_section_for_a_blocked_plugin_may_stay() -> None:
    assert Registry.load(["recovery"], {"recovery": {"x": 1}}, disabled_env="").problems == ()


# --------------------------------------------------------------------------------------------- the cluster's


def test_what_is_set_in_the_cluster_reaches_the_plugin_with_the_next_decision() -> None:
    acme = Acme()
    registry = Registry.of(acme=acme, sections={"acme": {"port": 81}})
    drivers = _with_required_filters(registry)
    nodes = [a_node("hv1", cores=8), a_node("hv2", cores=4, memory_mib=8192)]
    chosen = [
        Placer(drivers).place(a_request(node_selector="acme"), a_snapshot(nodes, settings=with_acme(weight=w))).node
        for w in (0, 10)
    ]
    assert chosen == ["hv2", "hv1"]
    assert [(seen.machine.port, seen.cluster.weight) for seen in acme.seen[1:]] == [(81, 0.0), (81, 10.0)]


def test_a_value_that_no_longer_fits_is_the_default_and_is_reported() -> None:
    registry, _, _ = loaded()
    settings = with_acme(weight=100, order="down", colour="red")
    assert registry.options("acme", settings).cluster == Cluster(order="down")
    assert registry.configurations.problems(settings) == (
        "acme.weight '100': expected float <= 10.0 (allowed: number, 0 to 10); the default is used",
        "acme.colour is set, but is not a setting",
    )


def test_values_that_exclude_one_another_are_all_defaults_and_are_reported() -> None:
    registry, _, _ = loaded()
    settings = with_acme(strict=True, weight=2)
    assert registry.options("acme", settings).cluster == Cluster()
    [problem] = registry.configurations.problems(settings)
    assert "all its defaults are used" in problem
    assert "strict needs racks" in problem


def test_values_of_a_plugin_that_is_not_here_are_reported_and_shown() -> None:
    settings = Settings(plugins={"gone": {"size": 3}})
    registry, _, _ = loaded()
    assert registry.configurations.problems(settings) == (
        "settings of the plugin gone are set, but it is not loaded here: size",
    )
    assert registry.configurations.values(settings)["gone"] == {"size": 3}


def test_options_of_the_same_settings_are_made_once() -> None:
    registry, _, _ = loaded()
    settings = with_acme(weight=3)
    assert registry.options("acme", settings) is registry.options("acme", settings)
    assert registry.options("acme", Settings()) is registry.options("acme", Settings())
    assert registry.options("other", settings) is NO_OPTIONS


def test_a_plugin_sees_nothing_of_what_is_set_for_others() -> None:
    seen: list[Settings] = []

    class Spy:
        def reject(self, request: Any, nodes: Any, settings: Settings) -> dict[str, str]:
            seen.append(settings)
            return {}

        @hookimpl
        def pvc_filters(self) -> Sequence[FilterEntry]:
            return [FilterEntry("spy", "", self)]

        @hookimpl
        def pvc_validate_vm(self, snapshot: Any, options: PluginOptions) -> list[str]:
            seen.append(snapshot.settings)
            return [] if options is NO_OPTIONS else ["has options"]

    registry = Registry.of(Spy(), acme=Acme())
    snapshot = a_snapshot([a_node()], settings=msgspec.structs.replace(with_acme(weight=3), memory_reserve_mib=7))
    Placer(registry).place(a_request(), snapshot)
    assert not registry.validate_vm(VmProposal(definition=None, metadata=None), snapshot).objections  # type: ignore[arg-type]
    assert [(settings.plugins, settings.memory_reserve_mib) for settings in seen] == [({}, 7), ({}, 7)]


# ------------------------------------------------------------------------------------------------- changing


def test_a_change_is_kept_as_what_it_means() -> None:
    registry, _, _ = loaded()
    patch = {"acme": {"weight": "2", "racks": ["r1"], "strict": "true"}}
    changed = registry.configurations.changed(Settings(), patch)
    assert changed == {"acme": {"weight": 2.0, "racks": ["r1"], "strict": True}}


def test_a_value_that_is_reset_is_no_longer_kept() -> None:
    registry, _, _ = loaded()
    settings = Settings(plugins={"acme": {"weight": 2.0, "colour": "red"}, "gone": {"size": 3}})
    changed = registry.configurations.changed(
        settings, {"acme": {"weight": None, "colour": None}, "gone": {"size": None}}
    )
    assert changed == {}


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        ({"acme": {"wieght": 2}}, "acme.wieght: is not a setting; is acme.weight meant?"),
        ({"acme": {"wieght": None}}, "acme.wieght: is not a setting; is acme.weight meant?"),
        ({"acme": {"x": 2}}, "acme.x: is not a setting (allowed: acme.weight, acme.racks, acme.order, acme.strict)"),
        ({"acne": {"weight": 2}}, "acne.weight: no plugin acne with settings is loaded here; is acme meant?"),
        ({"neighbour": {"x": 2}}, "neighbour.x: no plugin neighbour with settings is loaded here (allowed: acme)"),
        ({"acme": {"weight": 11}}, "acme.weight '11': expected float <= 10.0 (allowed: number, 0 to 10)"),
        ({"acme": {"order": "no"}}, "acme.order 'no': invalid enum value 'no' (allowed: down, up)"),
        ({"acme": {"racks": [[]]}}, "acme.racks[0]: expected str, got array (allowed: text)"),
        ({"acme": {"strict": True}}, "acme: strict needs racks"),
    ],
)
def test_a_change_that_cannot_be_is_refused_with_what_can(patch: dict[str, Any], sentence: str) -> None:
    registry = Registry.of(acme=Acme(), neighbour=Neighbour())
    with pytest.raises(InvalidInput) as caught:
        registry.configurations.changed(Settings(), patch)
    assert caught.value.sentence() == sentence


def test_values_survive_a_machine_that_lacks_the_plugin_and_a_version_that_lacks_them() -> None:
    class Older(msgspec.Struct):
        default_selector: str = "mem"

    stored = encode(Settings(plugins={"acme": {"weight": 2.0}}))
    older = decode(Entry("/settings", stored, 0), Older).value
    rewritten = decode(Entry("/settings", encode(older, stored), 1), Settings).value
    assert Registry.of().configurations.changed(rewritten, {}) == {"acme": {"weight": 2.0}}


# ------------------------------------------------------------------------------------------------- declaring


class Undocumented(msgspec.Struct, frozen=True):
    weight: int = 1


class Melting(msgspec.Struct):
    weight: int = 1
    """In GiB."""


class Required(msgspec.Struct, frozen=True):
    weight: int
    """In GiB."""


class Nested(msgspec.Struct, frozen=True):
    inner: Undocumented = Undocumented()
    """Something inside."""


class Table(msgspec.Struct, frozen=True):
    weights: dict[str, int] = {}
    """By node."""


class Described(msgspec.Struct, frozen=True):
    weight: Annotated[int, msgspec.Meta(description="In GiB.")] = 1


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        (ConfigSection(machine=Undocumented), "Undocumented.weight has no sentence under it"),
        (ConfigSection(cluster=Melting), "Melting is not frozen"),
        (ConfigSection(machine=Required), "Required.weight has no default"),
        (ConfigSection(machine=Nested), "Nested.inner: Undocumented.weight has no sentence under it"),
        (ConfigSection(cluster=Table), "Table.weights is no single value or list of them"),
        (ConfigSection(machine=int), "machine is no msgspec.Struct class"),  # type: ignore[arg-type]
        (ConfigSection(machine=Described()), "machine is no msgspec.Struct class"),  # type: ignore[arg-type]
        (Described, "returned StructMeta instead of a ConfigSection"),
        (None, "returned NoneType instead of a ConfigSection"),
        (ConfigSection(Described, Described), ""),
        (ConfigSection(machine=Table), ""),
    ],
)
def test_a_declaration_that_breaks_a_rule_fails_its_plugin(declared: object, problem: str) -> None:
    class Declaring:
        @hookimpl
        def pvc_config_section(self) -> object:
            return declared

    [info] = Registry.of(Declaring()).plugins
    assert (info.state == "failed") is bool(problem)
    assert problem in info.error


def test_options_of_a_plugin_whose_source_is_not_there_are_taken_as_they_are() -> None:
    code = (
        "import msgspec; from pvc_core import ConfigSection, hookimpl; from pvc_core.registry import Registry\n"
        "class Bare(msgspec.Struct, frozen=True):\n    x: int = 1\n"
        "class Acme:\n    @hookimpl\n    def pvc_config_section(self): return ConfigSection(Bare)\n"
        "assert Registry.of(Acme(), sections={'Acme': {'x': 2}}).problems == ()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _with_required_filters(registry: Registry) -> Any:
    """These selectors and options, with the filters that placement needs."""
    from pvc_core.placement_drivers import GivenDrivers

    selectors: dict[str, SelectorEntry] = dict(registry.selectors)
    return GivenDrivers(selectors, dict(BUILT_IN.filters), options=registry.options)


def test_a_title_stands_for_what_would_be_too_long_to_list() -> None:
    class Cluster(msgspec.Struct, frozen=True):
        wanted: tuple[Annotated[EventKind, msgspec.Meta(title="kinds of events")], ...] = ()
        """What is wanted."""

    section = checked_section("acme", ConfigSection(cluster=Cluster))
    configuration = PluginConfiguration("acme", section)
    ((_, field),) = configuration.described
    assert field.values == "list of kinds of events"
    with pytest.raises(InvalidInput) as refused:
        configuration.changed({}, {"wanted": ["vm_lost"]})
    assert refused.value.allowed == ("kinds of events",)
