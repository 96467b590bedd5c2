# SPDX-License-Identifier: Apache-2.0
"""Sizes of volumes are typed with a unit, and written in one that a person can read."""

from __future__ import annotations

import pytest

from pvc_core.errors import InvalidInput
from pvc_core.sizes import UNITS, parse_size, size_words

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("20GiB", 20 * GIB),
        ("20G", 20 * GIB),
        (" 20 gib ", 20 * GIB),
        ("1.5T", 3 * 2**39),
        ("0.5 KiB", 512),
        ("512B", 512),
        ("1M", 2**20),
        ("2PiB", 2**51),
    ],
)
def test_a_size_is_a_number_and_a_unit_in_any_case(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("20", "needs a unit"),
        ("20GB", "unknown unit GB"),
        ("20X", "unknown unit X"),
        ("", "is not a number and a unit"),
        ("-1G", "is not a number and a unit"),
        ("1e3G", "is not a number and a unit"),
        ("nan", "is not a number and a unit"),
        ("0G", "must be more than 0"),
        ("0.3B", "no whole number of bytes"),
        ("9999999999P", "must be more than 0 and at most"),
    ],
)
def test_what_is_no_size_is_refused_and_says_why(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem) as raised:
        parse_size(text, "to")
    assert raised.value.field == "to"


def test_a_size_without_a_unit_is_told_which_there_are() -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_size("20")
    assert all(unit in raised.value.sentence() for unit in UNITS)


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [(0, "0 B"), (512, "512 B"), (1023, "1023 B"), (1024, "1 KiB"), (20 * GIB, "20 GiB"), (3 * 2**39, "1.5 TiB")],
)
def test_a_size_is_written_in_the_largest_unit_that_it_reaches(size_bytes: int, words: str) -> None:
    assert size_words(size_bytes) == words
