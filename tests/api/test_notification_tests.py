# SPDX-License-Identifier: Apache-2.0
"""Trying notifications out through the API: every plugin delivers one now, and each answer says what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from api_cluster import ApiProcess, Cluster, eventually

from notify.http_receiver import HttpReceiver
from notify.mail_server import MailServer
from pvc_core import Event, hookimpl
from pvc_core.plugin_loading import FoundPlugin, installed_plugins
from pvc_core.registry import Registry
from pvc_plugins.notify.mail import Mail
from pvc_plugins.notify.webhook import Webhook


class Listening:
    """A third party's plugin that is told of events and cannot be tried out."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @hookimpl
    def pvc_event(self, event: Event) -> None:
        self.told.append(event.kind)


class Mute:
    """A third party's plugin that answers nonsense."""

    @hookimpl
    def pvc_notification_test(self, event: Event) -> None:
        return


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def listening() -> Listening:
    return Listening()


@pytest.fixture
def api(cluster: Cluster, server: MailServer, listening: Listening) -> Iterator[httpx.Client]:
    """An admin's client of a process that has these plugins, new ones whatever is installed."""
    plugins = {"webhook": Webhook(), "mail": Mail(), "listening": listening, "mute": Mute()}
    found = [each for each in installed_plugins([]) if each.name not in plugins]
    given = [FoundPlugin(name, lambda plugin=plugin: plugin) for name, plugin in plugins.items()]  # type: ignore[misc]
    registry = Registry([*found, *given], sections={"mail": {"server": "127.0.0.1", "port": server.port}})
    process = ApiProcess(registry.open_store(cluster.url), registry)
    process.connection.open()
    with process.client(process.token("admin")) as client:
        yield client
    process.notifier.close()
    for name in ("webhook", "mail"):
        plugins[name].outbox.close()  # type: ignore[attr-defined]
    process.waiter.stop()
    process.connection.close()


def set_plugins(api: httpx.Client, **settings: dict[str, Any]) -> None:
    api.post("/cluster/settings", json={"plugins": settings}).raise_for_status()


def answers(api: httpx.Client) -> dict[str, tuple[str, str]]:
    answer = api.post("/cluster/notify-test", json={"message": "please ignore"}).raise_for_status().json()
    return {found["plugin"]: (found["result"], found["says"]) for found in answer["answers"]}


def test_every_plugin_delivers_a_test_at_once_and_says_to_whom(api: httpx.Client, server: MailServer) -> None:
    with HttpReceiver() as receiver:
        set_plugins(api, webhook={"url": receiver.url, "collect_s": 3600}, mail={"to": ["ops@example.org"]})
        found = answers(api)
        (posted,) = receiver.arrivals.now()
    assert found["webhook"] == ("delivered", "delivered to 127.0.0.1")
    assert found["mail"] == ("delivered", "delivered to ops@example.org by 127.0.0.1")
    (mail,) = server.arrivals.now()
    assert mail.message["Subject"] == "[pvc] info: notification_test"
    assert posted.body["events"][0]["reason"] == "this is a test, nothing has happened: please ignore"
    assert posted.body["events"][0]["by"] == "api:admin-token"


def test_what_is_not_configured_is_off_and_the_event_is_told_to_all_the_same(
    api: httpx.Client, listening: Listening
) -> None:
    found = answers(api)
    assert (found["webhook"], found["mail"]) == (("off", ""), ("off", ""))
    eventually(lambda: "notification_test" in listening.told)
    assert api.get("/events", params={"kind": "notification_test"}).json()["events"][0]["by"] == "api:admin-token"


def test_a_failure_says_what_is_wrong_and_costs_only_itself(api: httpx.Client) -> None:
    with HttpReceiver(503) as receiver:
        set_plugins(api, webhook={"url": receiver.url}, mail={"to": ["ops@example.org"]})
        found = answers(api)
    assert found["webhook"] == ("failed", "not delivered to 127.0.0.1: it answered 503")
    assert found["mail"][0] == "delivered"
    assert found["mute"][0] == "failed"
    assert "returned None instead of a sentence" in found["mute"][1]


def test_a_test_is_not_delivered_a_second_time_as_an_event(api: httpx.Client, listening: Listening) -> None:
    with HttpReceiver() as receiver:
        set_plugins(api, webhook={"url": receiver.url, "collect_s": 0, "min_severity": "info"})
        answers(api)
        set_plugins(api, webhook={"without_kinds": ["vm_ended"]})
        bodies = [post.body for post in receiver.arrivals.wait(2)]
    kinds = [event["kind"] for body in bodies for event in body["events"]]
    assert kinds.count("notification_test") == 1
