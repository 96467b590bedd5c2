# SPDX-License-Identifier: Apache-2.0
"""host_reset: a command that resets a machine looks first whether it is a lab's."""

from __future__ import annotations

import os
from pathlib import Path

from pvc_lab import host_init
from pvc_lab.host_reset import why_not


def test_only_a_host_whose_first_process_is_the_labs_may_be_reset() -> None:
    assert why_not(b"\0".join([b"python3", b"-I", b"-S", os.fsencode(host_init.__file__), b"{}", b""])) == ""


def test_a_machine_that_mentions_the_lab_only_in_passing_may_not() -> None:
    assert why_not(b"/sbin/init\0") == "this is no lab host: its first process is /sbin/init"
    assert why_not(b"grep\0host_init\0") != ""


def test_the_machine_of_this_test_may_not() -> None:
    assert why_not(Path("/proc/1/cmdline").read_bytes()) != ""
