# SPDX-License-Identifier: Apache-2.0
"""Domain XML for the lab's guests, as cheap as a guest can be that really runs.

Software emulation (`type='qemu'`), since hardware virtualisation may be missing where the lab runs;
no graphics, no USB, no disks, no network. Transient domains: PVC creates them from this text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_DNS, UUID, uuid5
from xml.sax.saxutils import escape, quoteattr

from pvc_lab.guest_image import GuestImage

BOOTING_GUEST_MEMORY_MIB = 96
EMPTY_GUEST_MEMORY_MIB = 16

_DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
{boot}  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <controller type='usb' model='none'/>
{console}    <memballoon model='none'/>
  </devices>
</domain>
"""
_BOOT = """\
    <kernel>{kernel}</kernel>
    <initrd>{initramfs}</initrd>
    <cmdline>{parameters}</cmdline>
"""
_CONSOLE = """\
    <serial type='file'>
      <source path={path} append='on'/>
      <target port='0'/>
    </serial>
"""
KERNEL_PARAMETERS = ("console=ttyS0", "quiet", "panic=-1", "mitigations=off", "random.trust_cpu=on")


@dataclass(frozen=True)
class Guest:
    """One guest to be defined. Without `image` it boots nothing: the cheapest one, for placement.

    `console` is a file that all hypervisors see under this path; a migrated guest appends to it.
    `stubborn` ignores ACPI; `shutdown_delay_s` is how long an obedient one takes to power off.
    `uuid` None gives one that follows from the name, the same every time.
    """

    name: str
    image: GuestImage | None = None
    console: Path | None = None
    memory_mib: int = BOOTING_GUEST_MEMORY_MIB
    vcpus: int = 1
    stubborn: bool = False
    shutdown_delay_s: int = 0
    uuid: UUID | None = None

    @property
    def domain_uuid(self) -> UUID:
        return self.uuid or uuid5(NAMESPACE_DNS, f"{self.name}.guest.pvc-lab")

    def xml(self) -> str:
        """The definition as an administrator would write it."""
        return _DOMAIN.format(
            name=escape(self.name),
            uuid=self.domain_uuid,
            memory_mib=self.memory_mib,
            vcpus=self.vcpus,
            boot=self._boot(),
            console="" if self.console is None else _CONSOLE.format(path=quoteattr(str(self.console))),
        )

    def _boot(self) -> str:
        if self.image is None:
            return ""
        parameters = [*KERNEL_PARAMETERS]
        if self.stubborn:
            parameters.append("stubborn")
        if self.shutdown_delay_s:
            parameters.append(f"shutdown_delay_s={self.shutdown_delay_s}")
        return _BOOT.format(
            kernel=escape(str(self.image.kernel)),
            initramfs=escape(str(self.image.initramfs)),
            parameters=" ".join(parameters),
        )


def empty_guest(name: str, memory_mib: int = EMPTY_GUEST_MEMORY_MIB, vcpus: int = 1) -> Guest:
    """A guest that boots nothing and costs next to nothing; it answers no ACPI request."""
    return Guest(name, memory_mib=memory_mib, vcpus=vcpus)
