# SPDX-License-Identifier: Apache-2.0
"""/events: who did what and why, as a list and as a stream that costs nobody else their answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import falcon.testing
import httpx
import msgspec
import pytest
from api_cluster import ApiProcess, Cluster, eventually, xml

from pvc_api import event_stream
from pvc_core import FilterEntry, hookimpl, layout
from pvc_core.errors import StoreUnavailable
from pvc_core.plugin_loading import FoundPlugin, installed_plugins
from pvc_core.registry import Registry
from pvc_core.vm_states import VmEvent

FOLLOW = {"follow": "true"}
PATIENCE_S = 20


def listed(api: httpx.Client, **query: str | int) -> list[dict[str, Any]]:
    answer = api.get("/events", params=query)
    assert answer.status_code == 200, answer.text
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in events]


@pytest.fixture
def lively(cluster: Cluster, api: httpx.Client) -> httpx.Client:
    """An admin's client of a cluster in which a few things have happened."""
    api.post("/vm", json={"definition": xml("web1"), "target": "hv1"})
    api.post("/vm", json={"definition": xml("web2"), "target": "hv2", "start": True})
    api.post("/node/hv2/domain-state", json={"state": "flush"})
    return api


def test_events_say_who_did_what_and_how_a_place_was_chosen(lively: httpx.Client) -> None:
    token, defined, other, flushing = listed(lively)
    assert (token["kind"], token["by"]) == ("token_created", "")
    assert (defined["kind"], defined["vm"], defined["node"], defined["by"]) == (
        "vm_defined",
        "web1",
        "hv1",
        "api:admin-token",
    )
    assert defined["decision"]["ranking"][0]["node"] == "hv1"
    assert (flushing["kind"], flushing["node"], flushing["vm"]) == ("node_flushing", "hv2", "")
    assert other["reason"].startswith("defined; hv2 was named")


def test_a_request_without_a_role_for_it_is_refused_and_a_viewer_may_read(
    process: ApiProcess, lively: httpx.Client
) -> None:
    with process.client() as nobody, process.client(process.token("viewer")) as viewer:
        assert nobody.get("/events").status_code == 401
        assert nobody.get("/events", params=FOLLOW).status_code == 401
        assert kinds(listed(viewer, kind="vm_defined")) == ["vm_defined", "vm_defined"]


def test_events_are_filtered_by_vm_node_kind_and_what_is_known_already(lively: httpx.Client) -> None:
    every = listed(lively)
    assert kinds(listed(lively, vm="web1")) == ["vm_defined"]
    assert kinds(listed(lively, node="hv2")) == ["vm_defined", "node_flushing"]
    assert kinds(listed(lively, kind="node_flushing")) == ["node_flushing"]
    assert listed(lively, since=every[1]["id"]) == every[2:]
    assert listed(lively, limit=2) == every[-2:]
    assert listed(lively, limit=0) == []


def test_a_renamed_vm_is_found_with_what_happened_under_its_former_name(lively: httpx.Client) -> None:
    lively.post("/vm/web1/rename", json={"name": "db1"})
    assert kinds(listed(lively, vm="db1")) == ["vm_defined", "vm_renamed"]
    uuid = lively.get("/vm/db1").json()["uuid"]
    lively.delete("/vm/db1")
    assert kinds(listed(lively, vm=uuid.upper())) == ["vm_defined", "vm_renamed", "vm_undefined"]


def test_a_kind_that_does_not_exist_is_refused_with_those_that_do(api: httpx.Client) -> None:
    answer = api.get("/events", params={"kind": "vm_teleported"})
    assert answer.status_code == 422
    assert "vm_started" in answer.json()["allowed"]


def test_an_event_that_does_not_parse_is_shown_as_broken(cluster: Cluster, lively: httpx.Client) -> None:
    cluster.put(layout.event("0"), b"{no")
    document = lively.get("/events").json()
    assert len(document["events"]) == 4
    assert [broken["key"] for broken in document["broken"]] == ["/events/0"]


def test_no_event_holds_a_secret(lively: httpx.Client, process: ApiProcess) -> None:
    secret = process.token("operator")
    assert secret not in lively.get("/events").text
    assert secret.rpartition("_")[2] not in lively.get("/events").text


def test_a_plugin_that_fails_in_a_placement_is_named_by_the_decision_and_by_an_event_of_its_own(
    cluster: Cluster,
) -> None:
    class Broken:
        def reject(self, request: object, nodes: object, settings: object) -> dict[str, str]:
            raise RuntimeError("not today")

    class Acme:
        @hookimpl
        def pvc_filters(self) -> list[FilterEntry]:
            return [FilterEntry("broken", "raises", Broken())]

    registry = Registry([*installed_plugins([]), FoundPlugin("acme", Acme)])
    process = ApiProcess(registry.open_store(cluster.url), registry)
    process.connection.open()
    with process.client(process.token("admin")) as api:
        for name in ("web1", "web2"):
            assert api.post("/vm", json={"definition": xml(name)}).status_code == 201
        eventually(lambda: kinds(listed(api)).count("plugin_failed") == 1)
        (failed,) = listed(api, kind="plugin_failed")
        assert (failed["plugin"], failed["by"]) == ("acme", "api:admin-token")
        assert "RuntimeError: not today" in failed["reason"]
        assert "acme" in listed(api, vm="web1")[0]["decision"]["degraded"]
    process.notes.close()
    process.connection.close()


# ------------------------------------------------------------------------------------------------------ streams


class Follower:
    """A reader of a stream, which reads it chunk by chunk as a server would send it."""

    def __init__(self, process: ApiProcess, secret: str, query: str = "follow=true", **headers: str) -> None:
        environ = falcon.testing.create_environ(
            "/api/v1/events", query_string=query, headers={"Authorization": f"Bearer {secret}", **headers}
        )
        self.started = falcon.testing.StartResponseMock()
        self.body: Any = process.app(environ, self.started)
        self.chunks: Iterator[bytes] = iter(self.body)
        assert self.started.status == "200 OK", self.started.status
        assert next(self.chunks).startswith(b": ")

    def next(self) -> dict[str, Any]:
        """The next event."""
        identity, data = next(self.chunks).decode().strip().split("\n")
        event: dict[str, Any] = msgspec.json.decode(data.removeprefix("data: "))
        assert identity == f"id: {event['id']}"
        return event

    def close(self) -> None:
        self.body.close()


def test_a_stream_tells_what_happens_from_now_on_in_whichever_process(
    cluster: Cluster, process: ApiProcess, lively: httpx.Client
) -> None:
    follower = Follower(process, process.token("viewer"))
    cluster.happens("web2", VmEvent.STARTED)
    event = follower.next()
    assert (event["kind"], event["vm"]) == ("vm_started", "web2")
    follower.close()


def test_a_stream_goes_on_after_the_last_event_that_its_reader_had(process: ApiProcess, lively: httpx.Client) -> None:
    every = listed(lively)
    secret = process.token("viewer")
    follower = Follower(process, secret, "", **{"Accept": "text/event-stream", "Last-Event-ID": every[1]["id"]})
    assert [follower.next()["id"], follower.next()["id"]] == [every[2]["id"], every[3]["id"]]
    follower.close()
    assert dict(follower.started.headers)["content-type"] == "text/event-stream"


def test_a_stream_may_begin_with_the_last_events_and_is_filtered(
    cluster: Cluster, process: ApiProcess, lively: httpx.Client
) -> None:
    follower = Follower(process, process.token("viewer"), "follow=true&limit=1&vm=web2")
    assert follower.next()["kind"] == "vm_defined"
    lively.post("/vm/web1/state", json={"state": "disable"})
    cluster.happens("web2", VmEvent.STARTED)
    assert follower.next()["kind"] == "vm_started"
    follower.close()


def test_an_event_with_an_older_id_that_comes_late_is_told_all_the_same(
    cluster: Cluster, process: ApiProcess, lively: httpx.Client
) -> None:
    follower = Follower(process, process.token("viewer"))
    cluster.put(layout.event("1"), msgspec.json.encode({"id": "1", "at": "", "kind": "vm_held"}))
    assert follower.next()["id"] == "1"
    follower.close()


def test_as_many_streams_as_leave_half_of_the_threads_to_others(process: ApiProcess, lively: httpx.Client) -> None:
    secret = process.token("viewer")
    followers = [Follower(process, secret) for _ in range(process.waiter.slots // 2)]
    refused = lively.get("/events", params=FOLLOW)
    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
    assert refused.headers["Retry-After"]
    assert lively.get("/vm").status_code == 200
    for follower in followers:
        follower.close()
        follower.close()
    assert process.waiter.free_slots == process.waiter.slots
    Follower(process, secret).close()


def test_a_stream_ends_when_the_process_is_to_stop(process: ApiProcess, lively: httpx.Client) -> None:
    follower = Follower(process, process.token("viewer"))
    ended = threading.Event()

    def read_to_the_end() -> None:
        for _ in follower.chunks:
            pass
        ended.set()

    reader = threading.Thread(target=read_to_the_end)
    reader.start()
    process.waiter.stop()
    assert ended.wait(PATIENCE_S)
    reader.join(PATIENCE_S)
    follower.close()


def test_a_quiet_stream_says_now_and_then_that_it_is_alive(
    process: ApiProcess, lively: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.0)
    follower = Follower(process, process.token("viewer"))
    assert next(follower.chunks).startswith(b": ")
    follower.close()


def looks(process: ApiProcess) -> int:
    """How often the process has begun to look for events."""
    return sum(call.method == "children" and call.keys == (layout.EVENTS,) for call in process.store.calls)


def test_a_stream_outlives_a_store_that_is_away_for_a_moment(
    cluster: Cluster, process: ApiProcess, lively: httpx.Client
) -> None:
    secret = process.token("viewer")
    follower = Follower(process, secret)
    cluster.goes_away()
    process.store.reset()
    reader: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: reader.append(follower.next()))
    thread.start()
    eventually(lambda: looks(process) >= 3, PATIENCE_S)  # two of them in vain: they are counted as they begin
    cluster.comes_back()

    def is_written() -> bool:
        try:
            cluster.put(layout.event("1"), msgspec.json.encode({"id": "1", "at": "", "kind": "vm_held"}))
        except StoreUnavailable:
            return False
        return True

    eventually(is_written, PATIENCE_S)
    thread.join(PATIENCE_S)
    assert [event["id"] for event in reader] == ["1"]
    follower.close()
