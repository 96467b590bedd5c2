# SPDX-License-Identifier: Apache-2.0
"""On real daemons: whoever is configured hears that a node is lost, from the leader alone, and a mail is one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from notify.http_receiver import HttpReceiver
from notify.mail_server import MailServer
from operators import Operator, an_operator
from pvc_core.model import FenceReport, FenceStep
from pvc_core.snapshot import ClusterSnapshot
from pvc_lab.embedded_cluster import EmbeddedCluster


class NotifiedCluster(EmbeddedCluster):
    """Every machine has the same mail server and the same secret."""

    tables = ""

    def _configuration(self, node: str) -> str:
        return super()._configuration(node) + self.tables


def test_a_lost_node_is_told_to_a_url_and_by_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "secret").write_text("between us")
    cluster = NotifiedCluster(tmp_path)
    with HttpReceiver() as receiver, MailServer() as server:
        cluster.tables = (
            f'[plugin.webhook]\nsecret_file = "{tmp_path}/secret"\n'
            f'[plugin.mail]\nserver = "127.0.0.1"\nport = {server.port}\n'
        )
        try:
            for node in cluster.nodes:
                cluster.start_daemon(node)
            with an_operator(cluster.store_url, len(cluster.nodes)) as operator:
                lose_a_node(cluster, operator, receiver.url)
            (mail,) = server.arrivals.wait()
        finally:
            cluster.down()
        posts = receiver.arrivals.now()
    told = [event for post in posts for event in post.body["events"]]
    kinds = [event["kind"] for event in told]
    assert kinds[:2] == ["node_lost", "node_not_fenced"]
    assert {event["by"].partition(":")[0] for event in told} == {"leader"}, "what an agent did was as wanted"
    assert len({event["id"] for event in told}) == len(told), "nothing is told twice"
    assert all(post.headers["X-PVC-Signature"].startswith("sha256=") for post in posts)
    assert mail.message["Subject"] == f"[pvc] critical: node_lost hv3 and {len(mail.lines) - 3} more events"
    assert server.arrivals.now() == [mail]


def fence_of(snapshot: ClusterSnapshot) -> FenceReport | None:
    return snapshot.node("hv3").record.value.fence


def lose_a_node(cluster: EmbeddedCluster, operator: Operator, url: str) -> None:
    """A VM is lost with hv3 and starts elsewhere once a person has confirmed it."""
    mail = {"to": ["ops@example.org"], "collect_s": 600}
    operator.commands.change_settings({"fence_grace_s": 0.1, "plugins": {"webhook": {"url": url}, "mail": mail}})
    operator.define("web1", target="hv3")
    operator.wait_state("web1")
    cluster.stop("hv3", signal.SIGKILL)
    with cluster.world() as world:
        world.cut_power("hv3")
    operator.wait(lambda s: (fence := fence_of(s)) is not None and fence.attempts > 0, "the refusal")
    operator.commands.confirm_fenced("hv3")
    operator.wait(lambda s: (fence := fence_of(s)) is not None and fence.step is FenceStep.RECOVERED, "the recovery")
    operator.wait_state("web1")
    for node in ("hv1", "hv2"):
        cluster.stop(node)
