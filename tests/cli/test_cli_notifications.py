# SPDX-License-Identifier: Apache-2.0
"""`pvc cluster notify-test` says who was reached, and its exit status whether all is well."""

from __future__ import annotations

import pytest
from cli_runner import Cli, FakeApi

DELIVERED = {"plugin": "mail", "result": "delivered", "says": "delivered to ops@example.org by smtp.example.org"}
FAILED = {"plugin": "webhook", "result": "failed", "says": "not delivered to hooks.example.org: it answered 404"}
OFF = {"plugin": "webhook", "result": "off", "says": ""}


@pytest.mark.parametrize(
    ("answers", "status", "said"),
    [
        ([DELIVERED, OFF], 0, "delivered to ops@example.org"),
        ([DELIVERED, FAILED], 1, "it answered 404"),
        ([OFF], 1, "nobody was told"),
        ([], 1, "nobody was told"),
    ],
)
def test_the_status_is_0_when_somebody_was_reached_and_nothing_failed(
    run: Cli, answers: list[dict[str, str]], status: int, said: str
) -> None:
    api = FakeApi({"POST /cluster/notify-test": {"event": "1", "answers": answers}})
    ran = run("cluster", "notify-test", api=api)
    assert ran.status == status
    assert said in ran.out
