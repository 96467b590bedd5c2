# SPDX-License-Identifier: Apache-2.0
"""A node answers with as many of its volumes as a task's result holds; asked again and again, with each once."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc_core.storage import Volume
from pvc_core.storage_on_nodes import PAGE_BYTES, page_of
from pvc_core.task_entries import MAX_BYTES

NAMES = st.lists(st.text("abcé-", min_size=1, max_size=6), unique=True, max_size=30)


def volumes(*names: str) -> list[Volume]:
    return [Volume("own", name, 2**40, None) for name in names]


@given(names=NAMES, limit=st.integers(0, 5))
def test_page_after_page_holds_each_volume_once_in_the_order_of_their_names(names: list[str], limit: int) -> None:
    listed: list[str] = []
    more = True
    while more:
        page = page_of(volumes(*names), listed[-1] if listed else "", limit)
        assert page.total == len(names)
        assert len(page.volumes) <= (limit or len(names))
        assert page.volumes or not page.more
        listed += [name for name, *_ in page.volumes]
        more = page.more
    assert listed == sorted(names)


def test_what_follows_a_volume_that_has_been_removed_is_listed_all_the_same() -> None:
    page = page_of(volumes("a", "c"), "b", 0)
    assert ([name for name, *_ in page.volumes], page.total, page.more) == (["c"], 2, False)


@pytest.mark.parametrize("name", ["v{:0>126}", "é{:0>126}"])
def test_a_page_fits_into_the_result_of_a_task_however_many_volumes_there_are(name: str) -> None:
    page = page_of(volumes(*(name.format(number) for number in range(5000))), "", 0)
    size_bytes = len(json.dumps(msgspec.to_builtins(page)))
    assert PAGE_BYTES - 200 < size_bytes < MAX_BYTES
    assert (page.total, page.more) == (5000, True)
