# SPDX-License-Identifier: Apache-2.0
"""Settings of plugins through the API: listed with the others, changed by plugin and name, checked by the plugin."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from api_cluster import ApiProcess, Cluster

from acme_plugin import Acme
from pvc_core import layout
from pvc_core.model import Settings
from pvc_core.testing.driver_suite import registry_with

DEFAULTS = {"weight": 1.0, "racks": [], "order": "up", "strict": False}


@pytest.fixture
def api(cluster: Cluster) -> Iterator[httpx.Client]:
    """An admin's client of a process that has the plugin acme."""
    registry = registry_with(acme=Acme(), sections={"acme": {"password": "xyzzy"}})
    process = ApiProcess(registry.open_store(cluster.url), registry)
    process.connection.open()
    with process.client(process.token("admin")) as client:
        yield client
    process.waiter.stop()
    process.connection.close()


def acme_of(api: httpx.Client) -> object:
    return api.get("/cluster/settings").json()["settings"]["plugins"]["acme"]


def test_settings_of_a_plugin_are_listed_with_their_defaults(api: httpx.Client) -> None:
    assert acme_of(api) == DEFAULTS


def test_a_change_of_one_keeps_the_others_and_null_is_the_default_again(api: httpx.Client, cluster: Cluster) -> None:
    api.post("/cluster/settings", json={"plugins": {"acme": {"weight": 2}}, "start_failures": 5}).raise_for_status()
    api.post("/cluster/settings", json={"plugins": {"acme": {"racks": ["r1"]}}}).raise_for_status()
    assert acme_of(api) == {**DEFAULTS, "weight": 2.0, "racks": ["r1"]}
    assert not api.post("/cluster/settings", json={"plugins": {"acme": {"racks": ["r1"]}}}).json()["changed"]
    answer = api.post("/cluster/settings", json={"plugins": {"acme": {"weight": None}}, "start_failures": None}).json()
    assert (answer["changed"], answer["settings"]["start_failures"]) == (True, Settings().start_failures)
    assert acme_of(api) == {**DEFAULTS, "racks": ["r1"]}


def test_a_plugin_shows_what_can_be_configured_and_never_what_a_machine_keeps_to_itself(api: httpx.Client) -> None:
    api.post("/cluster/settings", json={"plugins": {"acme": {"weight": 2}}}).raise_for_status()
    options = {option["name"]: option for option in api.get("/plugin/acme").json()["options"]}
    assert options["acme.weight"] == {
        "name": "acme.weight",
        "kind": "cluster",
        "values": "number, 0 to 10",
        "default": "1",
        "meaning": "How much a core counts against a GiB of free memory.",
        "value": 2.0,
    }
    assert (options["plugin.acme.password"]["kind"], options["plugin.acme.password"]["value"]) == ("machine", None)
    assert "xyzzy" not in api.get("/plugin/acme").text


def test_a_refusal_names_the_plugins_setting(api: httpx.Client) -> None:
    for patch, field in (
        ({"acme": {"weight": 11}}, "acme.weight"),
        ({"acme": {"wieght": 1}}, "acme.wieght"),
        ({"filters": {"x": 1}}, "filters.x"),
        ({"acme": 3}, "plugins[...]"),
    ):
        answer = api.post("/cluster/settings", json={"plugins": patch, "start_failures": 9})
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert api.get("/cluster/settings").json()["settings"]["start_failures"] == Settings().start_failures


def test_what_no_plugin_can_use_is_shown_as_a_problem_and_can_be_reset(api: httpx.Client, cluster: Cluster) -> None:
    cluster.put(layout.SETTINGS, Settings(plugins={"acme": {"weight": 99}, "gone": {"size": 3}}))
    problems = (
        "acme.weight '99': expected float <= 10.0 (allowed: number, 0 to 10); the default is used",
        "settings of the plugin gone are set, but it is not loaded here: size",
    )
    api.post("/cluster/settings", json={"start_failures": 4}).raise_for_status()
    for path in ("/cluster", "/plugin"):
        assert set(problems) <= set(api.get(path).json()["problems"])
    reset = {"acme": {"weight": None}, "gone": {"size": None}}
    api.post("/cluster/settings", json={"plugins": reset}).raise_for_status()
    assert not set(problems) & set(api.get("/plugin").json()["problems"])
