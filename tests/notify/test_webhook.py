# SPDX-License-Identifier: Apache-2.0
"""The webhook, against a real HTTP server: what arrives, what is tried again, what is given up and said."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import make_certificate, serving_with
from notify.http_receiver import HttpReceiver
from notify.told import LOST, PATIENCE_S, READY, Told
from pvc_core.errors import InvalidInput, PluginError
from pvc_core.events import EventKind, Happening
from pvc_core.model import Settings
from pvc_core.registry import Registry
from pvc_plugins.notify.outbox import Pace
from pvc_plugins.notify.webhook import Webhook

QUICK = Pace(pause_s=0.01, longest_pause_s=0.1, give_up_s=PATIENCE_S)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Telling:
    """Makes webhooks and closes them at the end."""

    def __init__(self) -> None:
        self.all: list[Told] = []

    def __call__(self, url: str, machine: dict[str, Any] | None = None, pace: Pace = QUICK, **cluster: Any) -> Told:
        settings = {"url": url, "collect_s": 0.0, **cluster}
        self.all.append(Told("webhook", Webhook(pace), machine or {}, settings))
        return self.all[-1]


@pytest.fixture
def webhook() -> Iterator[Telling]:
    telling = Telling()
    yield telling
    for told in telling.all:
        told.plugin.outbox.close(PATIENCE_S)


def test_an_event_is_posted_with_its_severity_and_a_text(webhook: Telling) -> None:
    with HttpReceiver() as receiver:
        (written,) = webhook(receiver.url, cluster="berlin").tell(LOST)
        (posted,) = receiver.arrivals.wait()
    assert posted.path == "/hook/s3cr3t"
    assert posted.headers["Content-Type"] == "application/json"
    (event,) = posted.body.pop("events")
    assert (event["kind"], event["severity"], event["node"]) == ("node_lost", "critical", "hv2")
    assert (event["id"], event["at"], event["by"]) == (written.event.id, written.event.at, "leader:hv1")
    assert event["text"] == "critical: node_lost hv2: its session ended 2 s ago"
    body = {**posted.body, "delivery": posted.headers["X-PVC-Delivery"]}
    assert body == posted.body, "a receiver knows a repetition by the header or by the body"
    assert (body["version"], body["cluster"], body["severity"], body["left_out"]) == (1, "berlin", "critical", 0)
    assert body["text"] == "[berlin] critical: node_lost hv2: its session ended 2 s ago"


def test_what_happens_within_a_moment_is_posted_together(webhook: Telling) -> None:
    storm = [Happening(EventKind.VM_RECOVERING, f"place {n}", vm=f"web{n}", node="hv2") for n in range(90)]
    with HttpReceiver() as receiver:
        told = webhook(receiver.url, collect_s=3600)
        told.tell(LOST, *storm)
        told.plugin.outbox.close(PATIENCE_S)
        (posted,) = receiver.arrivals.now()
    assert [event["vm"] for event in posted.body["events"]] == ["", *(f"web{n}" for n in range(90))]
    assert posted.body["severity"] == "critical"
    assert len(posted.body["text"].splitlines()) == 91


def test_severity_and_kinds_choose(webhook: Telling) -> None:
    joined = Happening(EventKind.NODE_JOINED, "it is there", node="hv3")
    stayed = Happening(EventKind.VM_STAYED, "no room", vm="web1", node="hv1")
    with HttpReceiver() as receiver:
        told = webhook(receiver.url, collect_s=3600, also_kinds=["node_ready"], without_kinds=["vm_stayed"])
        told.tell(READY, joined, stayed, LOST)
        told.plugin.outbox.close(PATIENCE_S)
        (posted,) = receiver.arrivals.now()
    assert [event["kind"] for event in posted.body["events"]] == ["node_ready", "node_lost"]


def test_the_failure_of_the_webhook_itself_is_not_posted(webhook: Telling) -> None:
    of_others, its_own = (Happening(EventKind.PLUGIN_FAILED, "no", plugin=name) for name in ("acme", "webhook"))
    with HttpReceiver() as receiver:
        webhook(receiver.url).tell(its_own, of_others)
        (posted,) = receiver.arrivals.wait()
    assert [event["plugin"] for event in posted.body["events"]] == ["acme"]


def test_a_signature_proves_where_it_comes_from(webhook: Telling, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("between us\n")
    with HttpReceiver() as receiver:
        webhook(receiver.url, {"secret_file": f"{tmp_path}/secret"}).tell(LOST)
        (posted,) = receiver.arrivals.wait()
    digest = hmac.new(b"between us", posted.content, hashlib.sha256).hexdigest()
    assert posted.headers["X-PVC-Signature"] == f"sha256={digest}"


def test_a_token_goes_to_the_machines_own_url_and_may_be_replaced(webhook: Telling, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    with HttpReceiver() as receiver, HttpReceiver() as others:
        told = webhook(others.url, {"url": receiver.url, "token_file": f"{tmp_path}/token"})
        told.tell(LOST)
        receiver.arrivals.wait()
        (tmp_path / "token").write_text("two\n")
        told.tell(LOST)
        posted = receiver.arrivals.wait(2)
        assert others.arrivals.now() == []
    assert [each.headers["Authorization"] for each in posted] == ["Bearer one", "Bearer two"]


def test_an_answer_that_asks_for_patience_is_tried_again_with_the_same_body(webhook: Telling) -> None:
    with HttpReceiver(500, 503, 429) as receiver:
        told = webhook(receiver.url)
        told.tell(LOST)
        posted = receiver.arrivals.wait(4)
        assert len({each.content for each in posted}) == 1
        told.tell(READY)
    assert told.failures == []


@pytest.mark.parametrize("status", [302, 401, 404])
def test_another_answer_is_final_and_said_without_the_secret_path(webhook: Telling, status: int) -> None:
    with HttpReceiver(status) as receiver:
        told = webhook(receiver.url)
        told.tell(LOST)
        receiver.arrivals.wait()
        failure = told.failure()
        assert len(receiver.arrivals.now()) == 1
    assert failure.endswith(f"an event was not delivered to 127.0.0.1: it answered {status}")


def test_a_receiver_that_is_away_is_given_up_after_a_while(webhook: Telling) -> None:
    with HttpReceiver() as receiver:
        url = receiver.url
    told = webhook(url, pace=Pace(pause_s=0.01, give_up_s=0.02))
    told.tell(LOST, LOST)
    assert "Connection refused" in told.failure()


def test_a_certificate_is_verified(webhook: Telling, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "receiver")
    with HttpReceiver(tls=serving_with(certificate, key)) as receiver:
        told = webhook(receiver.url)
        told.tell(LOST)
        assert "its certificate is not accepted: self-signed certificate" in told.failure()
        assert receiver.arrivals.now() == []
        webhook(receiver.url, {"ca_file": str(certificate)}).tell(LOST)
        receiver.arrivals.wait()


def test_a_receiver_that_hangs_delays_nobody_and_is_tried_again(webhook: Telling) -> None:
    with HttpReceiver(0) as receiver:
        told = webhook(receiver.url, timeout_s=0.1)
        told.tell(LOST, READY)
        first, second, *_ = receiver.arrivals.wait(2)
        assert not receiver.go_on.is_set(), "the first answer never came, and telling did not wait for it"
    assert first.headers["X-PVC-Delivery"] == second.headers["X-PVC-Delivery"]


@pytest.mark.parametrize(("content", "problem"), [(None, "No such file or directory"), (" \n", "is empty")])
def test_a_secret_that_is_not_there_is_said(
    webhook: Telling, tmp_path: Path, content: str | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "secret").write_text(content)
    with HttpReceiver() as receiver:
        told = webhook(receiver.url, {"secret_file": f"{tmp_path}/secret"})
        told.tell(LOST)
        assert problem in told.failure()
        assert receiver.arrivals.now() == [], "nothing goes out unsigned"


@pytest.mark.parametrize(
    ("machine", "problem"),
    [
        ({"token_file": "/x"}, "needs the url"),
        ({"token_file": "/x", "url": "http://hooks.example.org/s3cr3t"}, "not sent over http"),
        ({"url": "ftp://hooks.example.org/s3cr3t"}, "no http:// or https:// URL"),
        ({"url": "https://hooks.example.org:seven/s3cr3t"}, "no http:// or https:// URL"),
        ({"url": "https://me:s3cr3t@hooks.example.org/"}, "name a token_file"),
    ],
)
def test_what_would_give_a_secret_away_is_refused_without_showing_it(machine: dict[str, Any], problem: str) -> None:
    registry = Registry.of(sections={"webhook": machine}, webhook=Webhook())
    (said,) = registry.problems
    assert problem in said
    assert "s3cr3t" not in said


def test_a_password_in_the_clusters_url_is_refused() -> None:
    registry = Registry.of(webhook=Webhook())
    with pytest.raises(InvalidInput, match="name a token_file") as refused:
        registry.configurations.changed(Settings(), {"webhook": {"url": "https://me:s3cr3t@hooks.example.org/"}})
    assert "s3cr3t" not in refused.value.sentence()


def test_without_a_url_nothing_is_sent_and_nothing_runs(webhook: Telling) -> None:
    told = webhook("")
    told.tell(LOST)
    assert told.plugin.outbox._thread is None
    assert told.failures == list[PluginError]()


def test_a_process_that_ends_delivers_what_it_has_collected() -> None:
    script = """
import sys
from notify.told import LOST, Told
from pvc_plugins.notify.webhook import Webhook
Told("webhook", Webhook(), {}, {"url": sys.argv[1], "collect_s": 3600}).tell(LOST)
"""
    with HttpReceiver() as receiver:
        path = [entry for entry in sys.path if entry]
        program = f"import sys; sys.path[:0] = {path!r}\n{script}"
        subprocess.run([sys.executable, "-c", program, receiver.url], check=True, timeout=PATIENCE_S)
        assert len(receiver.arrivals.now()) == 1
