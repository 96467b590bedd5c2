# SPDX-License-Identifier: Apache-2.0
"""A disk that boots: kernel, userland and boot loader in a FAT file system, and behind it the sector of a counter.

A guest that has nothing but this disk boots from it, goes on with the count that it finds on it, and tells on its
console what it has found, what it has synced, and what the disk has refused.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pvc_lab.guest import KERNEL_PARAMETERS
from pvc_lab.guest_image import GuestImage, Tick

_CYLINDERS, _HEADS, _SECTORS, _SECTOR_BYTES = 48, 16, 63, 512
FILE_SYSTEM_BYTES = _CYLINDERS * _HEADS * _SECTORS * _SECTOR_BYTES
COUNTER_SECTOR = FILE_SYSTEM_BYTES // _SECTOR_BYTES
DISK_MIB = 24
"""What a volume for such a disk needs at least."""

_LOADER = """\
DEFAULT counter
PROMPT 0
LABEL counter
  KERNEL vmlinuz
  INITRD initrd.gz
  APPEND {parameters}
"""
_COUNT = re.compile(r"^(found|synced|refused) (\d+) boot=([0-9a-f-]{36})\s*$", re.MULTILINE)


class GuestDiskError(RuntimeError):
    """The disk cannot be made; the message holds what the tool said."""


@dataclass(frozen=True)
class DiskCount(Tick):
    """One line of a console: `synced` says that this count is on the disk for good."""

    what: Literal["found", "synced", "refused"]


def build(image: GuestImage, path: Path, device: str = "vda") -> None:
    """Write the disk's first `FILE_SYSTEM_BYTES` to a file. device: what the guest is to call the disk."""
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        loader = Path(work, "syslinux.cfg")
        parameters = (*KERNEL_PARAMETERS, f"count_on=/dev/{device}:{COUNTER_SECTOR}")
        loader.write_text(_LOADER.format(parameters=" ".join(parameters)))
        disk = ("-i", str(path))
        geometry = ("-t", str(_CYLINDERS), "-h", str(_HEADS), "-s", str(_SECTORS))
        _run("mformat", *disk, "-C", *geometry, "::")
        for source, name in ((image.kernel, "vmlinuz"), (image.initramfs, "initrd.gz"), (loader, loader.name)):
            _run("mcopy", *disk, str(source), f"::{name}")
    _run("syslinux", "--install", str(path))


def disk_counts(console: Path) -> list[DiskCount]:
    """All lines on a console so far that tell of the counter, oldest first; one that is being written is left out."""
    if not console.exists():
        return []
    found = _COUNT.findall(console.read_text(errors="replace"))
    return [DiskCount(int(count), boot_id, what) for what, count, boot_id in found]


def _run(*argv: str) -> None:
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise GuestDiskError(f"{argv[0]} failed: {result.stderr.strip() or result.stdout.strip()}")
