# SPDX-License-Identifier: Apache-2.0
"""Every link between pages leads to a file and a heading that exist, and every page can be reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT, name_of

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def links(page: Path) -> list[str]:
    """Targets of links to files; code is no text."""
    found = _LINK.findall(_CODE.sub("", page.read_text()))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} does not exist"
        assert not anchor or anchor in headings(linked), f"{target}: no such heading"


def test_every_page_is_linked_from_the_readme_or_the_index() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md", ROOT / "docs/index.md", ROOT / "CHANGELOG.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = ((page.parent / target.partition("#")[0]).resolve() for target in links(page))
        waiting += [target for target in targets if target.suffix == ".md" and target.exists()]
    assert {name_of(page) for page in PAGES if "docs" in page.parts} - {name_of(page) for page in reached} == set()


def test_decisions_have_the_same_headings() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    expected = ["Context", "Decision", "Consequences", "What it is not for", "Rejected"]
    for decision in decisions:
        assert re.findall(r"^## (.+)$", decision.read_text(), re.MULTILINE) == expected, decision.name
    numbers = [decision.name[:4] for decision in decisions]
    assert len(set(numbers)) == len(numbers), "two decisions have the same number"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
