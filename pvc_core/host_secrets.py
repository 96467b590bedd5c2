# SPDX-License-Identifier: Apache-2.0
"""host_secrets: what a hypervisor has to know on its host before guests there reach a storage."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from pvc_core.errors import InvalidInput


@dataclass(frozen=True)
class HostSecret:
    """A key of a storage, which a hypervisor keeps on its host and nobody can read there.

    uuid: how a disk names it. kind: libvirt's usage type, such as "ceph". name: for the operator, one for each secret
    of a host. key: in base64; nobody but the host's hypervisor is told.
    """

    uuid: str
    kind: str
    name: str
    key: str = field(repr=False)

    def decoded(self) -> bytes:
        """The key's bytes. Raises `InvalidInput`, which does not tell the key."""
        try:
            key = base64.b64decode(self.key, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not key:
            raise InvalidInput("key", f"that of the secret '{self.name}' is not base64")
        return key
