# SPDX-License-Identifier: Apache-2.0
"""Real hypervisors for the tests that want them: one lab of two hosts for all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pvc_lab.lab import Lab

pytest.register_assert_rewrite("pvc_core.testing")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("libvirt") is None:
        return
    reason = _missing_requirement()
    if not reason:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"libvirt cannot be tested here: {reason}", pytrace=False)
    pytest.skip(f"libvirt cannot be tested here: {reason}")


def _missing_requirement() -> str:
    try:
        import libvirt  # noqa: F401

        from pvc_lab import packages
    except ImportError as error:
        return str(error)
    return packages.why_no_lab()


@pytest.fixture(scope="session")
def lab_of_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    from pvc_lab.lab import Lab

    with Lab(tmp_path_factory.mktemp("hypervisors"), nodes=2) as lab:
        yield lab
