# SPDX-License-Identifier: Apache-2.0
"""The Debian packages that the lab runs on: which are missing, and how to install them.

Nothing that is installed here may start a daemon: the lab starts its own, in its namespaces, and a
libvirtd or ZooKeeper of the machine itself would be none of its business.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pvc_lab import ceph_bindings

PACKAGES = (
    "busybox-static",  # the guests' userland
    "cpio",
    "default-jre-headless",
    "fence-agents",  # Debian 12 has them all in one
    "iproute2",
    "ipmitool",  # what fence_ipmilan calls
    "libslf4j-java",
    "libvirt-clients",
    "libvirt-daemon-driver-qemu",
    "libvirt-daemon-system",
    "libvirt-dev",  # libvirt-python is compiled against it
    "libzookeeper-java",
    "mtools",  # what syslinux copies itself into a file system with, and the lab its guests' kernel
    "openssl",  # the certificate of the API in the lab
    "pkg-config",
    "qemu-system-x86",
    "qemu-utils",  # qemu-img, of the storage backend directory
    "syslinux",  # what a guest's own disk boots by
    "util-linux",
)

CEPH_PACKAGES = (
    "ceph-common",  # the monitors' and the keys' tools, and with them the object classes of RBD
    "ceph-mgr",
    "ceph-mon",
    "ceph-osd",
    "python3-rados",
    "python3-rbd",
    "qemu-block-extra",  # QEMU's RBD driver
    "udev",  # udevadm, which ceph-volume asks about disks
)
"""What a Ceph cluster for tests is made of, and what speaks to it."""

# What serves as well as a package of the list: whatever provides this.
_SUBSTITUTES = {"default-jre-headless": "java-runtime-headless", "fence-agents": "fence-agents-ipmilan"}

_POLICY = Path("/usr/sbin/policy-rc.d")
_NO_DAEMON_STARTS = "#!/bin/sh\nexit 101\n"  # 101: "action forbidden by policy"


class PackagesError(RuntimeError):
    """The machine is not one on which the lab can be installed; the message says why."""


def missing(packages: Sequence[str] = PACKAGES) -> list[str]:
    """Those packages that are not installed, nor anything that provides them or serves as well."""
    _require("dpkg-query")
    query = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Status}\t${Package}, ${Provides}\n"],
        check=True,
        capture_output=True,
        text=True,
    )
    installed: set[str] = set()
    for line in query.stdout.splitlines():
        status, _, names = line.partition("\t")
        if status == "installed":
            installed.update(name.split()[0] for name in names.split(",") if name.strip())
    return [name for name in packages if name not in installed and _SUBSTITUTES.get(name) not in installed]


def why_no_lab() -> str:
    """Why the lab cannot run here as it is; "" when it can."""
    if os.geteuid() != 0:
        return "only root can make namespaces"
    try:
        absent = missing()
    except PackagesError as error:
        return str(error)
    return f"Debian packages are missing: {' '.join(absent)}" if absent else ""


def why_no_ceph() -> str:
    """Why no Ceph cluster can be started here; "" when one can. Root is not needed for that."""
    try:
        absent = missing(CEPH_PACKAGES)
    except PackagesError as error:
        return str(error)
    return f"Debian packages are missing: {' '.join(absent)}" if absent else ceph_bindings.why_missing()


def install(packages: Sequence[str] = PACKAGES) -> list[str]:
    """Install what is missing and return it. PackagesError if that cannot be done."""
    absent = missing(packages)
    if not absent:
        return []
    _require("apt-get")
    if os.geteuid() != 0:
        raise PackagesError(f"only root can install {' '.join(absent)}")
    with daemon_starts_forbidden():
        apt_get("update")
        apt_get("install", "--yes", "--no-install-recommends", *absent)
    return absent


def apt_get(*arguments: str, folder: Path | None = None) -> None:
    """Run apt-get in `folder`; PackagesError with the end of what it said if it fails."""
    _require("apt-get")
    # The sandbox user cannot write to a folder of root's.
    argv = ["apt-get", "--quiet=2", "--option", "APT::Sandbox::User=root", *arguments]
    result = subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        said = "\n".join(result.stdout.splitlines()[-15:])
        raise PackagesError(f"apt-get {' '.join(arguments)} failed:\n{said}")


@contextmanager
def daemon_starts_forbidden(policy: Path = _POLICY) -> Iterator[None]:
    """While it lasts, a package that is installed starts no daemon; then all is as before."""
    before = policy.read_bytes() if policy.exists() else None
    mode = policy.stat().st_mode if before is not None else 0o755
    policy.write_text(_NO_DAEMON_STARTS)
    policy.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            policy.unlink()
        else:
            policy.write_bytes(before)
            policy.chmod(mode)


def cache_dir() -> Path:
    """Where downloads and built images are kept: $PVC_LAB_CACHE, or ~/.cache/pvc-lab."""
    configured = os.environ.get("PVC_LAB_CACHE")
    return Path(configured) if configured else Path.home() / ".cache/pvc-lab"


def _require(program: str) -> None:
    if shutil.which(program) is None:
        raise PackagesError(f"the lab needs Debian or a relative of it: there is no {program} here")
