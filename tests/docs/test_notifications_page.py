# SPDX-License-Identifier: Apache-2.0
"""The page on notifications: its options, its body, its settings and its way to verify are the real ones."""

from __future__ import annotations

import hmac
import json
import tomllib
from typing import Any

import msgspec
import pytest
from pages import ROOT, blocks, commands, files, plain, table

from notify.told import LOST
from pvc_core.documented_fields import described_fields
from pvc_core.journal import Journal
from pvc_core.model import Settings
from pvc_core.registry import Registry
from pvc_core.testing.manual_clock import ManualClock
from pvc_plugins.notify import mail, outbox, webhook
from pvc_plugins.notify.outbox import DEFAULT_PACE, Batch

PAGE = ROOT / "docs/notifications.md"


@pytest.mark.parametrize(
    ("mark", "struct"),
    [
        ("webhook settings", webhook.Cluster),
        ("webhook machine", webhook.Machine),
        ("mail settings", mail.Cluster),
        ("mail machine", mail.Machine),
    ],
)
def test_the_page_has_every_option(mark: str, struct: type[msgspec.Struct]) -> None:
    described = [(field.name, field.values, field.default, field.meaning) for field in described_fields(struct)]
    shown = [(*map(plain, row[:3]), row[3]) for row in table(PAGE, mark)]
    assert shown == described


def test_the_settings_on_the_page_are_accepted() -> None:
    registry, settings = Registry.of(webhook=webhook.Webhook(), mail=mail.Mail()), Settings()
    given = [word for shown in commands(PAGE) for word in shown.words if "=" in word and "." in word.split("=")[0]]
    assert len(given) > 4
    for word in given:
        path, _, value = word.partition("=")
        plugin, _, name = path.partition(".")
        listed = isinstance(getattr(registry.options(plugin, settings).cluster, name), tuple)
        values: Any = value.split(",") if listed else value
        changed = registry.configurations.changed(settings, {plugin: {name: values}})
        settings = msgspec.structs.replace(settings, plugins=changed)


def test_the_tables_on_the_page_are_accepted() -> None:
    tables = [tomllib.loads(block.text)["plugin"] for block in blocks(PAGE) if block.language == "toml"]
    sections = {name: values for table in tables for name, values in table.items()}
    assert set(sections) == {"webhook", "mail"}
    assert Registry.of(sections=sections, webhook=webhook.Webhook(), mail=mail.Mail()).problems == ()


def test_the_body_on_the_page_is_one() -> None:
    shown = json.loads(files(PAGE)["body.json"])
    (written,) = Journal(ManualClock(), lambda: "leader:hv1").written([LOST])
    real = json.loads(msgspec.json.encode(webhook.body_of(Batch((written.event,), shown["delivery"]), "berlin")))
    for field in ("id", "at"):
        assert len(shown["events"][0][field]) == len(real["events"][0].pop(field))
        del shown["events"][0][field]
    assert shown == real
    assert list(shown) == list(real)


def test_the_way_to_verify_works() -> None:
    written: dict[str, Any] = {}
    exec(files(PAGE)["verify.py"], written)
    digest = "sha256=" + hmac.new(b"secret", b"body", "sha256").hexdigest()
    assert written["is_from_pvc"](b"body", digest, b"secret")
    assert not written["is_from_pvc"](b"other", digest, b"secret")


def test_the_page_names_the_limits() -> None:
    text = " ".join(PAGE.read_text().split())
    assert f"{outbox.TOGETHER} events at most" in text
    assert f"more than {outbox.WAITING:,} waited" in text
    assert outbox.Pace(1, 60, 300) == DEFAULT_PACE
    assert "1, 2, 4 ... 60 seconds, for five minutes" in text
    assert outbox.CLOSING_S == 3
    assert "waits three seconds" in text
    assert ", ".join(map(str, webhook.AGAIN)) + " and 5xx" in text
    for name in (webhook.DELIVERY, webhook.SIGNATURE):
        assert f"`{name}`" in text
