# SPDX-License-Identifier: Apache-2.0
"""Each hook's example is loaded as a plugin, and what it registers is called; third parties are stood in for.

New hooks need nothing here: arguments are made from the types in a hook's signature, or in the Protocol of the
driver that it registers.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib.abc
import importlib.machinery
import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pvc_core import hookspecs
from pvc_core.contributions import ApiResource, ApiSite, CliCommand
from pvc_core.fencing import FenceRequest
from pvc_core.hooks_page import LABELS, HookPage, hooks
from pvc_core.model import NodeRecord, Settings, VmRecord
from pvc_core.placement import Placer
from pvc_core.placement_drivers import GivenDrivers
from pvc_core.plugin_loading import CALLED, ENTRY_TYPES
from pvc_core.plugin_types import NodeCapacity, PlacementRequest, PluginOptions
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_capacity, a_node, a_request, a_snapshot, a_vm

BUILT_IN = Registry.load()
PAGES = list(hooks())


# ------------------------------------------------------------------------------------------- stand-ins


class Anything(str):
    """Whatever a third party's library would give: can be called, has every attribute, and reads "off"."""

    def __new__(cls, *_: object, **__: object) -> Anything:
        return super().__new__(cls, "off")

    def __call__(self, *_: object, **__: object) -> Anything:
        return self

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return self


class ThirdParties(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Every module whose name begins with `acme_` is there and has everything."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("acme_"):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: types.ModuleType) -> None:
        def attribute(name: str) -> object:
            if name.startswith("__"):
                raise AttributeError(name)
            return Anything

        module.__dict__["__getattr__"] = attribute


@pytest.fixture(autouse=True)
def third_parties() -> Iterator[None]:
    finder = ThirdParties()
    sys.meta_path.insert(0, finder)
    yield
    sys.meta_path.remove(finder)
    for name in [name for name, module in sys.modules.items() if getattr(module, "__loader__", None) is finder]:
        del sys.modules[name]


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[Callable[[HookPage], Registry]]:
    """The example in a hook's documentation as a plugin, loaded from a file, as the source of a struct is looked up."""

    def load(hook: HookPage) -> Registry:
        file = tmp_path / "hook_example.py"
        file.write_text(hook.example)
        spec = importlib.util.spec_from_file_location("hook_example", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["hook_example"] = module
        spec.loader.exec_module(module)
        return Registry.of(acme=module)

    yield load
    sys.modules.pop("hook_example", None)


# -------------------------------------------------------------------------------------------- arguments

READY_MADE: Mapping[object, Callable[[], object]] = {
    PlacementRequest: a_request,
    NodeCapacity: a_capacity,
    ClusterSnapshot: lambda: a_snapshot([a_node("hv1"), a_node("hv2")], [a_vm("web1")]),
    VmRecord: a_vm,
    NodeRecord: lambda: a_node().record.value,
    Settings: Settings,
    ApiSite: lambda: ApiSite(lambda: a_snapshot([a_node()]), PluginOptions, None),  # type: ignore[arg-type]  # no example stores anything
}
PLAIN: Mapping[object, object] = {str: "1", int: 1, float: 1.0, bool: True, bytes: b"", type(None): None}


class EverySecret(dict[str, str]):
    """Parameters of which any may be asked for."""

    def __missing__(self, key: str) -> str:
        return "1"


def example_of(kind: Any) -> object:
    """Some value of a type, made from the fields of what it is made of."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind in READY_MADE:
        return READY_MADE[kind]()
    if kind in PLAIN:
        return PLAIN[kind]
    if kind in (Any, object):
        return None
    if origin is typing.Annotated:
        return example_of(parts[0])
    if origin is typing.Literal:
        return parts[0]
    if origin in (typing.Union, types.UnionType):
        return example_of(parts[0])
    if origin in (dict, Mapping):
        return EverySecret() if parts == (str, str) else {}
    if origin in (Sequence, tuple, list, Collection):
        return (example_of(parts[0]),) if parts else ()
    if origin is Callable:
        return lambda *_: example_of(parts[-1])
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct)):
        hints = typing.get_type_hints(kind, include_extras=True, localns=late_names())
        names = [name for name in inspect.signature(kind).parameters if name in hints]
        return kind(**{name: example_of(hints[name]) for name in names})
    return Anything()


def late_names() -> dict[str, object]:
    """Types that a module of the core names for type checkers only."""
    from pvc_core.domain_xml import DomainDefinition

    return {"DomainDefinition": DomainDefinition}


def arguments_for(function: Callable[..., object], declared: Callable[..., object]) -> list[object]:
    """A value for each parameter that a plugin's function takes, by its type in the declaration."""
    hints = typing.get_type_hints(declared, include_extras=True, localns=late_names())
    return [example_of(hints[name]) for name in inspect.signature(function).parameters]


def driver_and_declaration(entry: Any) -> tuple[Callable[..., object], list[object]]:
    """What PVC calls of an entry, and what it would be called with."""
    if isinstance(entry, CliCommand):
        return load_command(entry), []
    attribute, method = ("build", "") if isinstance(entry, ApiResource) else CALLED[type(entry)]
    hints = typing.get_type_hints(type(entry), include_extras=True)
    if not method:
        return getattr(entry, attribute), [example_of(kind) for kind in typing.get_args(hints[attribute])[0]]
    function = getattr(getattr(entry, attribute), method)
    return function, arguments_for(function, getattr(hints[attribute], method))


def load_command(entry: CliCommand) -> Callable[[], object]:
    """How the command line gets at a command that an example holds as a function."""
    assert not isinstance(entry.load, str), "an example has no module to name"
    return entry.load


def with_options(argument: Any, options: PluginOptions) -> object:
    """A request as the plugin gets it: with its own options."""
    return (
        dataclasses.replace(argument, options=options)
        if isinstance(argument, PlacementRequest | FenceRequest)
        else argument
    )


# ------------------------------------------------------------------------------------------------ rules


@pytest.mark.parametrize("hook", PAGES, ids=lambda hook: hook.name)
def test_every_hook_says_when_it_is_called_how_answers_combine_and_what_a_failure_means(hook: HookPage) -> None:
    assert hook.summary.endswith(".")
    missing = [label for label in LABELS if not hook.paragraphs.get(label)]
    assert not missing, f"{hook.name} has no paragraph that begins with {missing[0]}:"


@pytest.mark.parametrize("hook", PAGES, ids=lambda hook: hook.name)
def test_the_example_of_every_hook_loads_and_what_it_registers_can_be_called(
    hook: HookPage, loaded: Callable[[HookPage], Registry]
) -> None:
    registry = loaded(hook)
    assert registry.problems == ()
    assert hook.name in registry.plugins[0].hooks
    for kind in ENTRY_TYPES:
        for entry in getattr(registry, kind).values():
            function, arguments = driver_and_declaration(entry)
            arguments = [with_options(argument, registry.options("acme", Settings())) for argument in arguments]
            assert registry.calls.ask("acme", function, *arguments) is not None


@pytest.mark.parametrize("hook", [page for page in PAGES if not page.registers_drivers], ids=lambda hook: hook.name)
def test_the_example_of_every_hook_for_all_plugins_can_be_called(
    hook: HookPage, loaded: Callable[[HookPage], Registry]
) -> None:
    loaded(hook)
    implementation = getattr(sys.modules["hook_example"], hook.name)
    implementation(*arguments_for(implementation, getattr(hookspecs, hook.name)))


def test_the_examples_of_selector_and_filter_take_part_in_a_placement(
    loaded: Callable[[HookPage], Registry],
) -> None:
    snapshot = a_snapshot([a_node("hv1", cores=8), a_node("hv2", memory_mib=9999)])
    page = {hook.name: hook for hook in PAGES}
    for name, selector in (("pvc_selectors", "cores"), ("pvc_config_section", "acme")):
        registry = loaded(page[name])
        drivers = GivenDrivers(registry.selectors, BUILT_IN.filters, registry.calls, registry.options)
        decision = Placer(drivers).place(a_request(node_selector=selector), snapshot)
        assert (decision.selector, decision.degraded) == (selector, "")
    registry = loaded(page["pvc_filters"])
    drivers = GivenDrivers(BUILT_IN.selectors, {**BUILT_IN.filters, **registry.filters}, registry.calls)
    decision = Placer(drivers).place(a_request(tags=("oracle",)), snapshot)
    assert {rejection.reason for rejection in decision.rejections} == {"has no Oracle licence"}
    assert decision.degraded == ""


def test_what_a_hook_is_offered_can_be_made_without_any_options() -> None:
    assert example_of(PluginOptions) == PluginOptions()
