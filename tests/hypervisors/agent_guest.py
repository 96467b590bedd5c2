# SPDX-License-Identifier: Apache-2.0
"""agent_guest: a guest of the lab with an agent that speaks QEMU's guest agent's protocol, as far as a freeze needs it.

What it is told to freeze and to thaw stands on its console, so that a test sees that it was really asked.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import tempfile
from pathlib import Path

from pvc_lab.guest_image import GuestImage, build, fetch_kernel
from pvc_lab.packages import cache_dir

MODULES = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_console")
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
_INIT = f"""\
#!/bin/busybox sh
PATH=/bin
/bin/busybox mkdir -p /dev /proc /sys
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
exec </dev/console >/dev/console 2>&1
for module in {" ".join(MODULES)}; do insmod /agent-modules/$module.ko; done

answer_host() {{
    until ls /dev/vport* >/dev/null 2>&1; do sleep 0.1; done
    exec 4<>"$(ls /dev/vport* | head -n 1)"
    frozen=0
    while true; do  # nothing can be read before the host has opened its end
        while read -r line <&4; do
            id=$(echo "$line" | sed -n 's/.*"id": *\\([0-9]*\\).*/\\1/p')
            case "$line" in
                *guest-sync*) echo "{{\\"return\\": $id}}" >&4 ;;
                *guest-get-time*) echo '{{"return": 1700000000000000000}}' >&4 ;;
                *guest-fsfreeze-freeze*) frozen=1; echo "agent freezes"; echo '{{"return": 1}}' >&4 ;;
                *guest-fsfreeze-thaw*) echo "agent thaws"; echo "{{\\"return\\": $frozen}}" >&4; frozen=0 ;;
                *) echo '{{"error": {{"class": "CommandNotFound", "desc": "not here"}}}}' >&4 ;;
            esac
        done
        sleep 0.1
    done
}}

boot=$(cat /proc/sys/kernel/random/boot_id)
answer_host &
tick=0
while true; do
    echo "tick $tick boot=$boot"
    tick=$((tick + 1))
    sleep 1
done
"""


def image_with_agent(folder: Path) -> GuestImage:
    """The lab's image with another archive behind it, which the kernel unpacks over the first."""
    plain, kernel = build(), fetch_kernel(cache_dir() / "kernel")
    with tempfile.TemporaryDirectory(dir=folder) as work:
        root = Path(work)
        (root / "agent-modules").mkdir()
        for module in MODULES:
            (found,) = kernel.glob(f"lib/modules/*/kernel/**/{module}.ko")
            shutil.copy(found, root / "agent-modules")
        (root / "init").write_text(_INIT)
        (root / "init").chmod(0o755)
        names = "\n".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
        words = ["cpio", "--create", "--format=newc", "--quiet", "--owner=+0:+0"]
        packed = subprocess.run(words, cwd=root, input=names.encode(), capture_output=True, check=True).stdout
    initramfs = folder / "initramfs-agent.gz"
    initramfs.write_bytes(plain.initramfs.read_bytes() + gzip.compress(packed))
    return GuestImage(plain.kernel, initramfs)
