# SPDX-License-Identifier: Apache-2.0
"""The lab's guests as text: definitions that say what was asked for, consoles that are read back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lxml import etree

from pvc_lab.guest import Guest, empty_guest
from pvc_lab.guest_disk import DiskCount, disk_counts
from pvc_lab.guest_image import GuestImage, Tick, ticks
from pvc_lab.processes import ProcessIdentity

IMAGE = GuestImage(Path("/cache/vmlinuz"), Path("/cache/initramfs.gz"))


def text_of(guest: Guest, path: str) -> str | None:
    return etree.fromstring(guest.xml()).findtext(path)


def test_a_definition_names_what_was_asked_for() -> None:
    guest = Guest("web <1>", IMAGE, Path("/lab/a & b.log"), memory_mib=128, vcpus=2)
    domain = etree.fromstring(guest.xml())
    assert domain.findtext("name") == "web <1>"
    assert domain.findtext("uuid") == str(guest.domain_uuid)
    assert (domain.findtext("memory"), domain.findtext("vcpu")) == ("128", "2")
    console = domain.find("devices/serial/source")
    assert console is not None
    assert (console.get("path"), console.get("append")) == ("/lab/a & b.log", "on")


def test_stubbornness_and_slowness_are_told_to_the_kernel() -> None:
    assert "stubborn" not in (text_of(Guest("web", IMAGE), "os/cmdline") or "").split()
    assert "stubborn" in (text_of(Guest("mule", IMAGE, stubborn=True), "os/cmdline") or "").split()
    assert "shutdown_delay_s=3" in (text_of(Guest("slow", IMAGE, shutdown_delay_s=3), "os/cmdline") or "").split()


def test_an_empty_guest_boots_nothing_and_has_no_console() -> None:
    domain = etree.fromstring(empty_guest("tiny").xml())
    assert domain.find("os/kernel") is None
    assert domain.find("devices/serial") is None
    assert domain.findtext("memory") == "16"


def test_a_guest_has_the_same_uuid_every_time_and_another_has_another() -> None:
    assert empty_guest("a").domain_uuid == empty_guest("a").domain_uuid
    assert empty_guest("a").domain_uuid != empty_guest("b").domain_uuid


def test_ticks_are_read_among_other_lines_and_half_lines(tmp_path: Path) -> None:
    boot = "a01218f8-4092-4070-abd8-8e4ba0778432"
    console = tmp_path / "console"
    console.write_text(f"[0.1] Linux\r\ntick 0 boot={boot}\r\n\x00noise\r\ntick 1 boot={boot}\r\ntick 2 boot=a012")
    assert ticks(console) == [Tick(0, boot), Tick(1, boot)]
    assert ticks(tmp_path / "none") == []


def test_an_identity_is_of_one_process_only() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    identity = ProcessIdentity.of(process.pid)
    assert identity.is_alive
    later = ProcessIdentity(identity.pid, identity.start_ticks + 1)  # the same ID, given out again
    assert not later.is_alive
    later.end()
    assert identity.is_alive
    identity.end()
    assert not identity.is_alive  # though it is a zombie until it is reaped
    process.wait()
    with pytest.raises(ProcessLookupError):
        ProcessIdentity.of(process.pid)


def test_a_console_tells_what_was_found_synced_and_refused_and_a_torn_line_tells_nothing(tmp_path: Path) -> None:
    first, second = f"{1:08d}-0000-0000-0000-000000000000", f"{2:08d}-0000-0000-0000-000000000000"
    console = tmp_path / "console.log"
    assert disk_counts(console) == []
    console.write_text(
        f"found 0 boot={first}\nsynced 1 boot={first}\r\nsynced 2 boot={first[:9]}found 1 boot={second}\n"
        f"refused 2 boot={first}\nsynced 2 boot={second}\nsynced 3 boot={second[:20]}"
    )
    assert disk_counts(console) == [
        DiskCount(0, first, "found"),
        DiskCount(1, first, "synced"),
        DiskCount(2, first, "refused"),
        DiskCount(2, second, "synced"),
    ]
