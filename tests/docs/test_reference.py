# SPDX-License-Identifier: Apache-2.0
"""What pages say of settings, selectors, exit statuses, states and hooks is what the code says."""

from __future__ import annotations

import re

import msgspec
import pytest
from pages import ROOT, plain, rows

from pvc_cli.exit_codes import EXIT_CODES
from pvc_core import hooks_page
from pvc_core.documented_fields import documented_fields
from pvc_core.events import KEPT_RANKED, KEPT_REJECTIONS, MEANINGS, Event, severity_of
from pvc_core.model import NOT_SETTINGS, Settings, VmState
from pvc_core.registry import Registry
from pvc_core.settings_page import page, settings

EVENTS = (ROOT / "docs/events.md").read_text()
CONCEPTS = (ROOT / "docs/concepts.md").read_text()


def test_the_page_of_settings_is_up_to_date() -> None:
    assert (ROOT / "docs/settings.md").read_text() == page(), "docs/settings.md is stale: make docs"


def test_the_page_of_hooks_is_up_to_date() -> None:
    assert (ROOT / "docs/plugins/hooks.md").read_text() == hooks_page.page(), (
        "docs/plugins/hooks.md is stale: make docs"
    )


def test_every_setting_is_on_its_page_with_a_meaning() -> None:
    names = [name for name in Settings.__struct_fields__ if name not in NOT_SETTINGS]
    assert [setting.name for setting in settings()] == names
    assert all(setting.meaning.endswith(".") for setting in settings())


def test_a_field_without_a_sentence_is_noticed() -> None:
    class Bare(msgspec.Struct):
        said: int = 1
        """It is said."""
        unsaid: int = 2

    assert documented_fields(Bare) == {"said": "It is said.", "unsaid": ""}


def test_every_exit_status_is_in_the_documentation_of_the_command() -> None:
    text = (ROOT / "docs/cli.md").read_text()
    documented = {int(plain(row[0])) for row in rows(text) if plain(row[0]).isdigit()}
    assert documented == set(EXIT_CODES)


def test_the_concepts_name_every_built_in_selector_and_policy() -> None:
    registry = Registry.load()
    own = {name for name, entry in registry.selectors.items() if entry.plugin == "selectors"}
    table = CONCEPTS.partition("| selector | the best node has |")[2].partition("\n\n")[0]
    assert {plain(line.split("|")[1].strip()) for line in table.splitlines()[2:]} == own
    for name, entry in registry.recovery_policies.items():
        assert entry.plugin != "recovery" or f"`{name}`" in CONCEPTS


def test_the_concepts_name_every_state() -> None:
    table = CONCEPTS.partition("| state | the guest | goes on to |")[2].partition("\n\n")[0]
    assert [plain(line.split("|")[1].strip()) for line in table.splitlines()[2:]] == [state.value for state in VmState]


def test_the_page_of_events_has_every_kind_with_its_meaning_and_every_field() -> None:
    fields, kinds = EVENTS.split("## Kinds")
    assert rows(kinds) == [[f"`{kind.value}`", severity_of(kind), meaning] for kind, meaning in MEANINGS.items()]
    named = set(re.findall(r"`(\w+)`", "\n".join(row[0] for row in rows(fields))))
    assert named == set(Event.__struct_fields__) - {"schema"}
    assert f"an event keeps {KEPT_RANKED} and {KEPT_REJECTIONS}" in EVENTS


@pytest.mark.parametrize(
    ("sentence", "setting", "value"),
    [
        (r"waits, (\d+) s unless", "shutdown_timeout_s", 180),
        (r"at first after (\w+) seconds", "start_backoff_s", "two"),
        (r"At the (\w+) failure", "start_failures", "third"),
        (r"within (\w+) minutes the VM is", "start_failure_window_s", "ten"),
        (r"at most (\w+) migrations per source", "max_parallel_migrations", "two"),
    ],
)
def test_the_concepts_give_the_defaults_of_the_settings(sentence: str, setting: str, value: object) -> None:
    said = re.search(sentence, CONCEPTS)
    assert said, f"the concepts no longer say {sentence}"
    assert said[1] == str(value)
    meant = {"two": 2, "third": 3, "ten": 600}.get(str(value), value)
    assert getattr(Settings(), setting) == meant
