# SPDX-License-Identifier: Apache-2.0
"""Mail, against a real SMTP server: what people read, how it is protected, what is tried again and what is given up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import make_certificate, serving_with
from notify.mail_server import LOGIN, MailServer
from notify.told import LOST, PATIENCE_S, READY, Told
from pvc_core.errors import InvalidInput
from pvc_core.events import EventKind, Happening
from pvc_core.model import Settings
from pvc_core.registry import Registry
from pvc_plugins.notify.mail import Mail
from pvc_plugins.notify.outbox import Pace

QUICK = Pace(pause_s=0.01, longest_pause_s=0.1, give_up_s=PATIENCE_S)


class Telling:
    """Makes mail plugins and closes them at the end."""

    def __init__(self) -> None:
        self.all: list[Told] = []

    def __call__(self, server: MailServer, machine: dict[str, Any] | None = None, **cluster: Any) -> Told:
        own = {"server": "127.0.0.1", "port": server.port, **(machine or {})}
        settings = {"to": ["ops@example.org"], "collect_s": 0.0, **cluster}
        self.all.append(Told("mail", Mail(QUICK), own, settings))
        return self.all[-1]


@pytest.fixture
def mail() -> Iterator[Telling]:
    telling = Telling()
    yield telling
    for told in telling.all:
        told.plugin.outbox.close(PATIENCE_S)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return make_certificate(tmp_path, "mailhost")


def login_file(folder: Path, password: str) -> dict[str, Any]:
    (folder / "password").write_text(f"{password}\n")
    return {"username": LOGIN[0], "password_file": f"{folder}/password"}


def test_a_mail_says_what_has_happened_and_why(mail: Telling) -> None:
    with MailServer() as server:
        told = mail(server, to=["ops@example.org", "boss@example.org"], sender="pvc@example.org", cluster="berlin")
        (written,) = told.tell(LOST)
        (taken,) = server.arrivals.wait()
    assert (taken.sender, taken.to) == ("pvc@example.org", ("ops@example.org", "boss@example.org"))
    message = taken.message
    assert message["Subject"] == "[berlin] critical: node_lost hv2"
    assert (message["From"], message["To"]) == ("pvc@example.org", "ops@example.org, boss@example.org")
    assert message["Message-ID"].endswith("@example.org>")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_type() == "text/plain"
    assert taken.lines[0] == f"{written.event.at} critical: node_lost hv2: its session ended 2 s ago"


def test_a_storm_is_one_mail(mail: Telling) -> None:
    storm = [Happening(EventKind.VM_RECOVERING, "place", vm=f"web{n}", node="hv2", target="hv1") for n in range(99)]
    with MailServer() as server:
        told = mail(server, collect_s=3600)
        told.tell(LOST, *storm)
        told.plugin.outbox.close(PATIENCE_S)
        (taken,) = server.arrivals.now()
    assert taken.message["Subject"] == "[pvc] critical: node_lost hv2 and 99 more events"
    assert "warning: vm_recovering web98 (hv2 -> hv1): place" in taken.lines[99]


def test_no_reason_can_add_a_header_or_a_line(mail: Telling) -> None:
    nasty = Happening(EventKind.VM_FAILED, "broken\r\nBcc: all@example.org\n\nmore ü", vm="web1\nX: y")
    with MailServer() as server:
        mail(server).tell(nasty)
        (taken,) = server.arrivals.wait()
    assert taken.message["Subject"] == "[pvc] critical: vm_failed web1 X: y"
    assert "Bcc" not in taken.message
    assert taken.lines[0].endswith("vm_failed web1 X: y: broken Bcc: all@example.org more ü")


def test_a_login_is_made_under_starttls(mail: Telling, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    machine = {"security": "starttls", "ca_file": str(certificate[0]), **login_file(tmp_path, LOGIN[1])}
    with MailServer(starttls=serving_with(*certificate)) as server:
        mail(server, machine).tell(LOST)
        server.arrivals.wait()


def test_a_server_may_speak_tls_from_the_beginning(mail: Telling, certificate: tuple[Path, Path]) -> None:
    with MailServer(tls=serving_with(*certificate)) as server:
        mail(server, {"security": "tls", "ca_file": str(certificate[0])}).tell(LOST)
        server.arrivals.wait()


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_no_password_goes_to_a_server_that_is_not_known(
    mail: Telling, certificate: tuple[Path, Path], tmp_path: Path, security: str
) -> None:
    machine = {"security": security, **login_file(tmp_path, LOGIN[1])}
    with MailServer(**{security: serving_with(*certificate)}) as server:
        told = mail(server, machine)
        told.tell(LOST)
        assert "its certificate is not accepted" in told.failure()
        assert server.arrivals.now() == []


def test_nothing_is_sent_when_the_server_does_not_offer_the_protection(mail: Telling) -> None:
    with MailServer() as server:
        told = mail(server, {"security": "starttls"})
        told.tell(LOST)
        assert "STARTTLS extension not supported" in told.failure()
        assert server.arrivals.now() == []


def test_a_wrong_password_is_said_and_not_shown(mail: Telling, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    machine = {"security": "starttls", "ca_file": str(certificate[0]), **login_file(tmp_path, "wr0ng")}
    with MailServer(starttls=serving_with(*certificate)) as server:
        told = mail(server, machine)
        told.tell(LOST)
        failure = told.failure()
    assert "it answered 535" in failure
    assert "wr0ng" not in failure


def test_a_server_that_asks_for_patience_is_tried_again(mail: Telling) -> None:
    with MailServer("451 later", "421 too busy") as server:
        told = mail(server)
        told.tell(LOST)
        assert len({taken.message["Message-ID"] for taken in server.arrivals.wait(3)}) == 1
        told.tell(READY)
    assert told.failures == []


def test_a_refusal_is_final_and_said(mail: Telling) -> None:
    with MailServer("554 no such mail") as server:
        told = mail(server)
        told.tell(LOST, LOST)
        assert "not delivered to ops@example.org by 127.0.0.1: it answered 554 no such mail" in told.failure()


def test_who_is_refused_is_said_and_the_others_get_it(mail: Telling) -> None:
    with MailServer(unknown="gone@example.org") as server:
        told = mail(server, to=["ops@example.org", "gone@example.org"])
        told.tell(LOST)
        (taken,) = server.arrivals.wait()
        assert taken.to == ("ops@example.org",)
        assert "it refuses gone@example.org: 550 nobody of that name" in told.failure()
        other = mail(server, to=["gone@example.org"])
        other.tell(LOST)
        assert "it refuses gone@example.org: 550 nobody of that name" in other.failure()


@pytest.mark.parametrize(
    ("machine", "problem"),
    [
        ({"username": "pvc"}, "need one another"),
        ({"username": "pvc", "password_file": "/x", "server": "mx.example.org", "security": "none"}, "not sent over"),
        ({"security": "ssl"}, "security"),
    ],
)
def test_a_machine_that_would_show_a_password_is_refused(machine: dict[str, Any], problem: str) -> None:
    (said,) = Registry.of(sections={"mail": machine}, mail=Mail()).problems
    assert problem in said


@pytest.mark.parametrize("address", ["ops", "ops@example.org, boss@example.org", "a@b\nBcc: c@d"])
def test_what_is_no_address_is_refused(address: str) -> None:
    registry = Registry.of(mail=Mail())
    for patch in ({"to": [address]}, {"sender": address}):
        with pytest.raises(InvalidInput):
            registry.configurations.changed(Settings(), {"mail": patch})
