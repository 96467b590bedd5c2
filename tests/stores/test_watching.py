# SPDX-License-Identifier: Apache-2.0
"""What the engine behind all watches reads, and that a failed read is not the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest

from pvc_core.errors import StoreUnavailable
from pvc_core.ports import Entry
from pvc_core.store_watching import Stamped, WatchEngine
from pvc_core.testing.store_suite import Recorder


class Source:
    """Values in memory. `on_read` runs at the start of each read and may raise."""

    def __init__(self) -> None:
        self.values: dict[str, Stamped] = {}
        self.reads: list[Sequence[str]] = []
        self.lists = 0
        self.failures = 0

    def write(self, key: str, stamp: int) -> None:
        self.values[key] = Stamped(Entry(key, b"%d" % stamp, 0), stamp)

    def read_key(self, key: str, fresh: bool) -> Stamped | None:
        return self.read_keys([key]).get(key)

    def read_keys(self, keys: Sequence[str]) -> Mapping[str, Stamped]:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("for this test")
        self.reads.append(keys)
        return {key: self.values[key] for key in keys if key in self.values}

    def list_keys(self, parent: str, fresh: bool) -> Sequence[str]:
        self.lists += 1
        return [key for key in self.values if key.startswith(f"{parent}/")]


@pytest.fixture
def source() -> Source:
    source = Source()
    for number in range(1000):
        source.write(f"/vms/{number}", number + 1)
    return source


@pytest.fixture
def engine(source: Source) -> Iterator[WatchEngine]:
    engine = WatchEngine(source)
    engine.start()
    yield engine
    engine.close()


News = Recorder[Mapping[str, Entry | None]]


def test_one_change_in_a_large_mirror_costs_one_read(source: Source, engine: WatchEngine) -> None:
    news = News()
    engine.mirror("/vms", news)
    source.reads.clear()
    source.write("/vms/7", 2000)
    engine.key_changed("/vms/7")
    news.wait_for_last({"/vms/7": Entry("/vms/7", b"2000", 0)})
    assert (source.reads, source.lists) == ([["/vms/7"]], 1)


def test_a_new_child_costs_one_list_and_one_read(source: Source, engine: WatchEngine) -> None:
    news = News()
    engine.mirror("/vms", news)
    source.reads.clear()
    source.write("/vms/new", 2000)
    engine.children_changed("/vms")
    news.wait_for_last({"/vms/new": Entry("/vms/new", b"2000", 0)})
    assert (source.reads, source.lists) == ([["/vms/new"]], 2)


def test_an_event_without_a_change_is_not_news(source: Source, engine: WatchEngine) -> None:
    news, values = News(), Recorder[Entry | None]()
    engine.mirror("/vms", news)
    engine.watch("/vms/1", values)
    for _ in range(3):
        engine.key_changed("/vms/1")
        engine.children_changed("/vms")
        engine.everything_changed()
    source.write("/vms/1", 2000)
    engine.key_changed("/vms/1")
    values.wait_for_last(Entry("/vms/1", b"2000", 0))
    news.wait_for_last({"/vms/1": Entry("/vms/1", b"2000", 0)})
    assert (len(news.told), len(values.told)) == (2, 2)


def test_what_could_not_be_read_is_read_again(source: Source, engine: WatchEngine) -> None:
    news, values = News(), Recorder[Entry | None]()
    engine.mirror("/vms", news)
    engine.watch("/vms/1", values)
    source.failures = 5
    source.write("/vms/1", 2000)
    engine.key_changed("/vms/1")
    values.wait_for_last(Entry("/vms/1", b"2000", 0))
    news.wait_for_last({"/vms/1": Entry("/vms/1", b"2000", 0)})


def test_what_changes_during_the_first_read_is_reported_after_it(source: Source, engine: WatchEngine) -> None:
    values = Recorder[Entry | None]()

    def listener(entry: Entry | None) -> None:
        if not values.told:  # the first call, before `watch` has returned
            source.write("/vms/1", 2000)
            engine.key_changed("/vms/1")
        values(entry)

    engine.watch("/vms/1", listener)
    values.wait_for_last(Entry("/vms/1", b"2000", 0))
    assert values.told[0] == Entry("/vms/1", b"2", 0)


def test_a_watch_that_cannot_be_read_at_first_is_not_kept(source: Source, engine: WatchEngine) -> None:
    values, other = Recorder[Entry | None](), Recorder[Entry | None]()
    source.failures = 1
    with pytest.raises(StoreUnavailable):
        engine.watch("/vms/1", values)
    engine.watch("/vms/1", other)
    source.write("/vms/1", 2000)
    engine.key_changed("/vms/1")
    other.wait_for_last(Entry("/vms/1", b"2000", 0))
    assert values.told == []
