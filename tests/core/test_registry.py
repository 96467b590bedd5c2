# SPDX-License-Identifier: Apache-2.0
"""The registry: what is loaded, what is refused and why, and that one broken plugin costs only itself."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pvc_core import SelectorEntry, hookimpl
from pvc_core.placement import Placer
from pvc_core.registry import PluginInfo, Registry
from pvc_core.testing.builders import a_node, a_request, a_snapshot

Install = Callable[..., None]

SELECTOR_PLUGIN = """
    \"\"\"Acme: the most cores.\"\"\"
    from pvc_core import SelectorEntry, hookimpl

    class MostCores:
        def score(self, request, candidates):
            return {node.name: float(node.cores) for node in candidates}

    @hookimpl
    def pvc_selectors():
        return [SelectorEntry("NAME", "the most cores", MostCores())]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution with one plugin on the path, as pip would; gone after the test."""
    modules: list[str] = []
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(distribution: str, code: str, plugin: str = "", version: str = "1.0") -> None:
        module = f"{distribution.replace('-', '_')}_module"
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(code))
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\nSummary: By {distribution}\n"
        )
        (info / "entry_points.txt").write_text(f"[pvc]\n{plugin or distribution} = {module}\n")

    yield put
    for module in modules:
        sys.modules.pop(module, None)


def info_of(registry: Registry, name: str, distribution: str | None = None) -> PluginInfo:
    [info] = [info for info in registry.plugins if info.name == name and distribution in (None, info.distribution)]
    return info


# --------------------------------------------------------------------------------------------- the built-in


def test_the_built_in_drivers_come_through_the_same_door_as_anybodys() -> None:
    registry = Registry.load()
    assert registry.problems == ()
    assert list(registry.selectors) == ["even", "load", "mem", "memprov", "vcpus", "vms"]
    assert list(registry.filters) == ["exclude", "limit", "memory", "ready", "rules", "storage", "vcpus"]
    assert list(registry.recovery_policies) == ["restart", "stay", "stop"]
    assert list(registry.stores) == ["sqlite", "zookeeper"]
    assert list(registry.hypervisors) == ["libvirt", "simulated"]
    assert list(registry.storage_backends) == ["ceph", "directory"]
    assert {(info.distribution, info.state) for info in registry.plugins} == {("pvc", "active")}
    assert registry.selectors["mem"].plugin == "selectors"


def test_what_a_daemon_publishes_of_its_plugins() -> None:
    registry = Registry.load(blocked=["recovery"])
    others = {
        "ceph",
        "directory",
        "exec",
        "fence-agents",
        "filters",
        "hypervisors",
        "mail",
        "selectors",
        "stores",
        "webhook",
    }
    assert set(registry.plugin_versions) == others
    assert registry.driver_names["selectors"] == ("even", "load", "mem", "memprov", "vcpus", "vms")
    assert registry.driver_names["recovery_policies"] == ()


def test_the_recovery_policies_decide_what_their_names_say() -> None:
    policies = Registry.load().recovery_policies
    assert policies["restart"].policy.without_candidate(a_request()) == "hold"
    assert policies["stay"].policy.without_candidate(a_request()) == "stay"


def test_loading_imports_no_drivers_library() -> None:
    code = (
        "import sys; from pvc_core.registry import Registry; assert Registry.load().problems == ();"
        "print([name for name in ('kazoo', 'libvirt', 'sqlite3', 'falcon', 'lxml') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ---------------------------------------------------------------------------------------- a third party's


def test_a_third_partys_selector_is_chosen_by_name(install: Install) -> None:
    install("pvc-selector-acme", SELECTOR_PLUGIN.replace("NAME", "acme"), plugin="acme", version="1.2")
    registry = Registry.load()
    assert info_of(registry, "acme") == PluginInfo(
        name="acme",
        distribution="pvc-selector-acme",
        version="1.2",
        summary="Acme: the most cores.",
        state="active",
        hooks=("pvc_selectors",),
        drivers={"selectors": ("acme",)},
    )
    snapshot = a_snapshot([a_node("hv1", cores=64), a_node("hv2", memory_mib=9999)])
    decision = Placer(registry).place(a_request(node_selector="acme"), snapshot)
    assert decision.reason == "selector acme: hv1 of 2 candidates has the most cores"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import a_module_that_nobody_has", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import asyncio; raise asyncio.CancelledError()", "CancelledError"),
        ("x = 1", "implements no hook of PVC"),
        ("import pvc_core\n@pvc_core.hookimpl\ndef pvc_selectorz(): return []", "unknown hook 'pvc_selectorz'"),
        ("import pvc_core\n@pvc_core.hookimpl\ndef pvc_selectors(config): return []", "config"),
        ("import pvc_core\n@pvc_core.hookimpl\ndef pvc_selectors(config=1): return []", "without a default"),
        ("import pvc_core\n@pvc_core.hookimpl\ndef pvc_selectors(*, config): return []", "must be plain"),
        ("import pvc_core\n@pvc_core.hookimpl(wrapper=True)\ndef pvc_filters():\n    return (yield)", "is a wrapper"),
        ("import pvc_core\n@pvc_core.hookimpl\ndef pvc_selectors(): return 1 / 0", "ZeroDivisionError"),
        (
            "import pvc_core\n@pvc_core.hookimpl\ndef pvc_selectors(): return None",
            "returned NoneType instead of a list",
        ),
        ("import pvc_core\n@pvc_core.hookimpl\ndef pvc_selectors(): return ['mem']", "returned a str instead of a Sel"),
    ],
)
def test_a_broken_plugin_is_listed_with_its_reason_and_costs_only_itself(
    install: Install, code: str, problem: str
) -> None:
    install("acme-broken", code)
    install("acme-good", SELECTOR_PLUGIN.replace("NAME", "good"))
    registry = Registry.load()
    broken = info_of(registry, "acme-broken")
    assert broken.state == "failed"
    assert problem in broken.error
    assert broken.drivers == {}
    assert registry.problems == (f"plugin acme-broken: {broken.error}",)
    assert {"good", "mem"} <= set(registry.selectors)
    assert "memory" in registry.filters


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ('SelectorEntry("", "", MostCores())', "'', which is no valid name"),
        ('SelectorEntry("mem:2", "", MostCores())', "'mem:2', which is no valid name"),
        ('SelectorEntry("none", "", MostCores())', "'none', which is no valid name"),
        ('SelectorEntry(None, "", MostCores())', "None, which is no valid name"),
        ('SelectorEntry("acme", "", MostCores)', "'acme' is the class MostCores; an instance is needed"),
        ('SelectorEntry("acme", "", object())', "'acme' has no method 'score' to call"),
    ],
)
def test_an_entry_that_cannot_be_chosen_or_called_fails_its_plugin(install: Install, entry: str, problem: str) -> None:
    install("acme", SELECTOR_PLUGIN.replace('SelectorEntry("NAME", "the most cores", MostCores())', entry))
    assert problem in info_of(Registry.load(), "acme").error


def test_a_plugin_may_implement_a_hook_of_a_later_pvc_as_optional(install: Install) -> None:
    later = "\n    @hookimpl(optionalhook=True)\n    def pvc_from_the_future(): return []\n"
    install("acme", SELECTOR_PLUGIN.replace("NAME", "acme") + later)
    assert info_of(Registry.load(), "acme").hooks == ("pvc_selectors",)


# -------------------------------------------------------------------------------------------------- names


def test_two_plugins_with_one_name_are_both_refused_and_reported(install: Install) -> None:
    install("acme-a", SELECTOR_PLUGIN.replace("NAME", "a"), plugin="acme")
    install("acme-b", SELECTOR_PLUGIN.replace("NAME", "b"), plugin="acme", version="2.0")
    registry = Registry.load()
    assert info_of(registry, "acme", "acme-a").error == "another plugin has the same name: acme-b 2.0"
    assert info_of(registry, "acme", "acme-b").error == "another plugin has the same name: acme-a 1.0"
    assert {"a", "b"}.isdisjoint(registry.selectors)
    assert len(registry.problems) == 2


def test_blocking_one_of_two_namesakes_by_its_distribution_lets_the_other_in(install: Install) -> None:
    install("acme-a", SELECTOR_PLUGIN.replace("NAME", "a"), plugin="acme")
    install("acme-b", SELECTOR_PLUGIN.replace("NAME", "b"), plugin="acme")
    registry = Registry.load(blocked=["acme-a"])
    assert registry.problems == ()
    assert "b" in registry.selectors


def test_a_driver_name_that_two_plugins_register_is_refused_to_both(install: Install) -> None:
    install("acme-a", SELECTOR_PLUGIN.replace("NAME", "same"))
    install("acme-b", SELECTOR_PLUGIN.replace("NAME", "same"))
    registry = Registry.load()
    assert "same" not in registry.selectors
    for name, other in (("acme-a", "acme-b"), ("acme-b", "acme-a")):
        info = info_of(registry, name)
        assert info.state == "active"
        assert info.drivers == {"selectors": ()}
        assert info.error == f"its selectors 'same' is refused: another plugin has the same name: {other} 1.0"


def test_nobody_takes_a_name_of_pvc_itself(install: Install) -> None:
    install("acme-a", SELECTOR_PLUGIN.replace("NAME", "mem"))
    install("acme-b", SELECTOR_PLUGIN.replace("NAME", "b"), plugin="filters")
    registry = Registry.load()
    assert registry.selectors["mem"].plugin == "selectors"
    assert "memory" in registry.filters
    assert "belongs to a plugin of PVC itself" in info_of(registry, "acme-a").error
    assert info_of(registry, "filters", "acme-b").error == "the name belongs to a plugin of PVC itself"
    assert info_of(registry, "filters", "pvc").state == "active"


# ----------------------------------------------------------------------------------------------- blocking


def test_a_blocked_plugin_is_not_even_imported(install: Install) -> None:
    install("acme", "raise RuntimeError('imported')")
    registry = Registry.load(blocked=["acme"])
    assert info_of(registry, "acme").state == "blocked"
    assert registry.problems == ()
    assert "acme_module" not in sys.modules


def test_the_environment_blocks_a_list_with_or_without_spaces(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme", SELECTOR_PLUGIN.replace("NAME", "acme"))
    monkeypatch.setenv("PVC_DISABLED_PLUGINS", "acme, recovery,,")
    registry = Registry.load()
    assert [info.name for info in registry.plugins if info.state == "blocked"] == ["acme", "recovery"]
    assert "recovery" not in {info.name for info in Registry.load(disabled_env="acme").plugins if info.error}


def test_blocking_a_plugin_that_nobody_has_is_a_problem() -> None:
    assert Registry.load(blocked=["gone"]).problems == ("gone is to be blocked, but no plugin is called that",)


def test_a_plugin_that_is_not_installed_can_be_tried_beside_nothing_else() -> None:
    class Acme:
        @hookimpl
        def pvc_selectors(self) -> list[SelectorEntry]:
            return [SelectorEntry("acme", "", Registry.load().selectors["mem"].selector)]

    registry = Registry.of(Acme())
    assert list(registry.selectors) == ["acme"]
    assert [info.name for info in registry.plugins] == ["Acme"]
