# SPDX-License-Identifier: Apache-2.0
"""holds: a guest holds still, by its agent or by stopped processors, and goes on.

libvirt waits for an agent without end unless it is told how long; that holds for the domain, whoever asks. An agent
that is not there, or does not answer, is known by the error's code, as is a guest without one.
"""

from __future__ import annotations

import math

import libvirt
import structlog

from pvc_core.errors import HypervisorError
from pvc_core.ports import DomainState
from pvc_plugins.hypervisors.libvirt_driver.bindings import (
    LibvirtConnection,
    LibvirtDomain,
    find_domain,
    is_gone,
    is_not_possible_now,
    state_of,
)

log = structlog.get_logger(__name__)
_NO_AGENT = (
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
)
"""There is none, it is not connected, or does not answer; or the guest's hypervisor knows no such thing."""


def freeze(connection: LibvirtConnection, uuid: str, timeout_s: float) -> bool:
    """See `HoldsGuests`."""
    domain = find_domain(connection, uuid)
    if domain is None or state_of(domain) is None:
        raise HypervisorError(f"no domain {uuid} runs here")
    try:
        _answer_within(domain, timeout_s)
        domain.getTime()  # an agent that answers nothing is not asked for what it might do later
    except libvirt.libvirtError as error:
        if state_of(domain) is None:
            raise
        log.debug("guest_agent_absent", uuid=uuid, problem=str(error))
        return False
    try:
        domain.fsFreeze()
    except libvirt.libvirtError as error:
        log.warning("guest_not_frozen", uuid=uuid, problem=str(error))
        domain.fsThaw()
        return False
    return True


def thaw(connection: LibvirtConnection, uuid: str, timeout_s: float) -> bool:
    """See `HoldsGuests`."""
    domain = find_domain(connection, uuid)
    if domain is None:
        return False
    try:
        _answer_within(domain, timeout_s)
        return domain.fsThaw() > 0
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE and _is_connected(domain):
            raise
        if _has_no_agent(error) or is_not_possible_now(error):
            return False
        raise


def suspend(connection: LibvirtConnection, uuid: str) -> None:
    """See `HoldsGuests`."""
    domain = find_domain(connection, uuid)
    if domain is None or state_of(domain) is None:
        raise HypervisorError(f"no domain {uuid} runs here")
    domain.suspend()


def resume(connection: LibvirtConnection, uuid: str) -> bool:
    """See `HoldsGuests`."""
    domain = find_domain(connection, uuid)
    if state_of(domain) is not DomainState.PAUSED or domain is None:
        return False
    try:
        domain.resume()
    except libvirt.libvirtError as error:
        if is_not_possible_now(error) and state_of(domain) is not DomainState.PAUSED:
            return False
        raise
    return True


def _answer_within(domain: LibvirtDomain, timeout_s: float) -> None:
    domain.agentSetResponseTimeout(math.ceil(timeout_s))


def _has_no_agent(error: libvirt.libvirtError) -> bool:
    return is_gone(error) or error.get_error_code() in _NO_AGENT


def _is_connected(domain: LibvirtDomain) -> bool:
    """Whether the guest has an agent that has the channel open."""
    try:
        return "state='connected'" in domain.XMLDesc(0)
    except libvirt.libvirtError:
        return False
