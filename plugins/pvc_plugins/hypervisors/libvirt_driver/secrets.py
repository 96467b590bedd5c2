# SPDX-License-Identifier: Apache-2.0
"""secrets: what libvirt is told so that guests here reach a storage: in its memory alone, and read by nobody.

A secret that the operator has defined under the same UUID keeps the operator's definition, and gets the key.
"""

from __future__ import annotations

from collections.abc import Callable
from xml.sax.saxutils import escape

import libvirt

from pvc_core.errors import HypervisorError, InvalidInput
from pvc_core.host_secrets import HostSecret
from pvc_plugins.hypervisors.libvirt_driver.bindings import LibvirtConnection, LibvirtSecret

KINDS = {"ceph": libvirt.VIR_SECRET_USAGE_TYPE_CEPH}

_SECRET = """\
<secret ephemeral='yes' private='yes'>
  <uuid>{uuid}</uuid>
  <usage type='{kind}'><name>{name}</name></usage>
</secret>
"""


def ensure(connection: LibvirtConnection, secret: HostSecret) -> None:
    """Have libvirt know it. Raises `HypervisorError` for what is no secret of a storage."""
    if secret.kind not in KINDS:
        raise HypervisorError(f"a secret of the kind '{secret.kind}' is unknown here (allowed: {', '.join(KINDS)})")
    try:
        key = secret.decoded()
    except InvalidInput as error:
        raise HypervisorError(error.sentence()) from error
    known = _found(lambda: connection.secretLookupByUUIDString(secret.uuid))
    (known or _defined(connection, secret)).setValue(key)


def _defined(connection: LibvirtConnection, secret: HostSecret) -> LibvirtSecret:
    """A new one, instead of that which had its name until now: libvirt would not have both."""
    before = _found(lambda: connection.secretLookupByUsage(KINDS[secret.kind], secret.name))
    if before is not None:
        before.undefine()
    xml = _SECRET.format(uuid=escape(secret.uuid), kind=secret.kind, name=escape(secret.name))
    return connection.secretDefineXML(xml)


def _found(look_up: Callable[[], LibvirtSecret]) -> LibvirtSecret | None:
    try:
        return look_up()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
            return None
        raise
