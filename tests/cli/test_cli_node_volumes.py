# SPDX-License-Identifier: Apache-2.0
"""`pvc storage directory volume list POOL --node NODE`: all of a node's volumes, in however many answers they come."""

from __future__ import annotations

from typing import Any

from cli_runner import Cli, FakeApi, problem

PATH = "GET /storage/directory/node/hv1/pool/own/volume"
LIST = ("storage", "directory", "volume", "list", "own", "--node", "hv1")


def a_volume(name: str, vm: str = "") -> dict[str, Any]:
    return {"pool": "own", "name": name, "size_bytes": 2**30, "used_bytes": 2**20, "vm": vm}


def a_page(*volumes: dict[str, Any], total: int, more: bool) -> dict[str, Any]:
    return {"volumes": list(volumes), "total": total, "more": more}


def test_they_are_asked_for_until_there_are_no_more_and_shown_as_one_list(run: Cli) -> None:
    pages = [
        a_page(a_volume("a"), a_volume("b"), total=3, more=True),
        a_page(a_volume("c", "web1"), total=3, more=False),
    ]
    api = FakeApi({PATH: list(pages)})
    rows = [row.split() for row in run(*LIST, api=api).out.splitlines()]
    assert rows == [
        ["NAME", "SIZE", "USED", "VM"],
        ["a", "1", "GiB", "1", "MiB", "-"],
        ["b", "1", "GiB", "1", "MiB", "-"],
        ["c", "1", "GiB", "1", "MiB", "web1"],
    ]
    assert [asked.query for asked in api.asked] == [{}, {"after": "b"}]
    document = run(*LIST, "-o", "json", api=FakeApi({PATH: list(pages)})).document
    assert document == a_page(a_volume("a"), a_volume("b"), a_volume("c", "web1"), total=3, more=False)
    assert run(*LIST, "-o", "names", api=FakeApi({PATH: list(pages)})).out.split() == ["a", "b", "c"]


def test_a_node_without_any_says_so(run: Cli) -> None:
    assert run(*LIST, api=FakeApi({PATH: a_page(total=0, more=False)})).out == "pool own of hv1 has no volumes\n"


def test_a_node_that_does_not_answer_is_an_error_that_says_for_what_it_was_waited(run: Cli) -> None:
    said = "still waiting for hv1 to list the volumes of pool own after 30 s"
    ran = run(*LIST, api=FakeApi({PATH: problem(504, "deadline_exceeded", said)}))
    assert (ran.status, said in ran.err) == (9, True)


def test_without_a_node_the_pool_is_one_that_all_share(run: Cli) -> None:
    api = FakeApi({"GET /storage/directory/pool/vms/volume": {"volumes": [a_volume("a")]}})
    assert run(*LIST[:4], "vms", "-o", "names", api=api).out == "a\n"
