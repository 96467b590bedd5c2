# SPDX-License-Identifier: Apache-2.0
"""What the lab's guests boot: Debian's cloud kernel and a userland that counts its seconds.

The guest prints one line a second to its serial console, with a random ID chosen at boot. After a
live migration the count must go on under the same ID; a restart betrays itself by a new one. It
powers off when asked by ACPI, as an operating system does, unless it is told to be stubborn.
One that is told a sector of its disk counts there instead, and says how far it is once that is synced.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pvc_lab.packages import PackagesError, apt_get, cache_dir

_KERNEL_PACKAGE = "linux-image-cloud-amd64"
_VIRTIO = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci")
_DISK_MODULES = (*(f"drivers/virtio/{name}.ko" for name in _VIRTIO), "drivers/block/virtio_blk.ko")
"""In the order in which they are loaded."""
_MODULES = ("drivers/input/evdev.ko", "drivers/acpi/button.ko", *_DISK_MODULES)
_BUSYBOX = Path("/bin/busybox")
_INIT = """\
#!/bin/busybox sh
PATH=/bin
/bin/busybox mkdir -p /dev /proc /sys
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
exec </dev/console >/dev/console 2>&1

parameter() {  # the value of NAME=VALUE on the kernel's command line
    sed -n "s/.*\\b$1=\\([^ ]*\\).*/\\1/p" /proc/cmdline
}

open_power_button() {
    insmod /modules/evdev.ko
    insmod /modules/button.ko
    name=$(grep -lx 'Power Button' /sys/class/input/event*/device/name | head -n 1)
    event=${name#/sys/class/input/}
    exec 3<"/dev/input/${event%%/*}"
}

power_off_when_pressed() {
    head -c 1 <&3 >/dev/null
    echo "power button boot=$boot"
    delay=$(parameter shutdown_delay_s)
    sleep "${delay:-0}"
    poweroff -f
}

boot=$(cat /proc/sys/kernel/random/boot_id)
if ! grep -qw stubborn /proc/cmdline; then
    open_power_button  # before the first tick: from then on no press is missed
    power_off_when_pressed &
fi

count_on_disk() {  # at sector $2 of the disk $1
    for module in DISK_MODULES; do
        insmod "/modules/$module"
    done
    if ! [ -b "$1" ]; then
        echo "there is no disk $1"
        exec sleep 2147483647
    fi
    count=$(dd if="$1" bs=512 skip="$2" count=1 2>/dev/null | tr -dc 0-9)
    count=${count:-0}
    echo "found $count boot=$boot"
    while true; do
        next=$((count + 1))
        if printf '%-512s' "$next" | dd of="$1" bs=512 seek="$2" conv=notrunc,fsync 2>/dev/null; then
            count=$next
            echo "synced $count boot=$boot"
        else
            echo "refused $next boot=$boot"
        fi
        sleep 0.2
    done
}

disk=$(parameter count_on)
if [ -n "$disk" ]; then
    count_on_disk "${disk%:*}" "${disk#*:}"
fi

tick=0
while true; do
    echo "tick $tick boot=$boot"
    tick=$((tick + 1))
    sleep 1
done
""".replace("DISK_MODULES", " ".join(Path(name).name for name in _DISK_MODULES))
_TICK = re.compile(r"^tick (\d+) boot=([0-9a-f-]{36})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class GuestImage:
    """Two files that QEMU boots directly; every hypervisor must see them under these paths."""

    kernel: Path
    initramfs: Path


@dataclass(frozen=True)
class Tick:
    """One line of a guest's console: the seconds since its boot, and which boot it was."""

    count: int
    boot_id: str


def build(cache: Path | None = None) -> GuestImage:
    """The image, from the cache if nothing that it is made of has changed since.

    PackagesError if the kernel can be neither found nor downloaded.
    """
    cache = cache_dir() if cache is None else cache
    kernel_dir = fetch_kernel(cache / "kernel")
    modules = {Path(name).name: _only(kernel_dir.glob(f"lib/modules/*/kernel/{name}")) for name in _MODULES}
    kernel = _only(kernel_dir.glob("boot/vmlinuz-*"))
    digest = hashlib.sha256(_INIT.encode())
    for path in (_BUSYBOX, *modules.values()):
        digest.update(path.read_bytes())
    initramfs = cache / f"initramfs-{digest.hexdigest()[:16]}.gz"
    if not initramfs.exists():
        with tempfile.TemporaryDirectory(dir=cache) as work:
            packed = Path(work, "initramfs.gz")
            packed.write_bytes(gzip.compress(_pack(Path(work, "root"), modules), mtime=0))
            packed.rename(initramfs)  # at once: another lab may be building the same
    return GuestImage(kernel, initramfs)


def fetch_kernel(folder: Path) -> Path:
    """The unpacked package of Debian's cloud kernel; downloaded once, never installed."""
    present = sorted(path for path in folder.glob("linux-image-*") if path.is_dir())
    if present:
        return present[-1]
    folder.mkdir(parents=True, exist_ok=True)
    package = _kernel_package()
    with tempfile.TemporaryDirectory(dir=folder) as work:
        apt_get("download", package, folder=Path(work))
        unpacked = Path(work, "unpacked")
        subprocess.run(["dpkg", "-x", str(_only(Path(work).glob("*.deb"))), str(unpacked)], check=True)
        target = folder / package
        if not target.exists():
            unpacked.rename(target)
    return target


def ticks(console: Path) -> list[Tick]:
    """All ticks on a console so far, oldest first; a line that is being written is left out."""
    if not console.exists():
        return []
    return [Tick(int(count), boot_id) for count, boot_id in _TICK.findall(console.read_text(errors="replace"))]


def _kernel_package() -> str:
    """The package of the kernel itself, which the package without a version depends on."""
    package = _dependency_of(_KERNEL_PACKAGE)
    if package is None:
        apt_get("update")
        package = _dependency_of(_KERNEL_PACKAGE)
    if package is None:
        raise PackagesError(f"apt knows no package {_KERNEL_PACKAGE}: the guests have no kernel")
    return package


def _dependency_of(package: str) -> str | None:
    argv = ["apt-cache", "depends", package]
    depends = subprocess.run(argv, capture_output=True, text=True, check=False)  # unknown: exit status 100
    found = re.search(r"Depends: (linux-image-\S+)", depends.stdout)
    return found[1] if found else None


def _pack(root: Path, modules: dict[str, Path]) -> bytes:
    """The userland as a cpio archive, the form that the kernel unpacks."""
    for folder in ("bin", "modules"):
        (root / folder).mkdir(parents=True)
    shutil.copy(_BUSYBOX, root / "bin/busybox")
    for name, path in modules.items():
        shutil.copy(path, root / "modules" / name)
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    archive = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet", "--reproducible", "--owner=+0:+0"],
        cwd=root,
        input="\n".join(names).encode(),
        capture_output=True,
        check=True,
    )
    return archive.stdout


def _only(paths: Iterable[Path]) -> Path:
    found = list(paths)
    if len(found) != 1:
        raise PackagesError(f"the kernel's package is not as expected: one file sought, found {found}")
    return found[0]
