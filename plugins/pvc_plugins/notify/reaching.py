# SPDX-License-Identifier: Apache-2.0
"""reaching: what both plugins need to reach a receiver: secrets from files, and certificates."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

from pvc_plugins.notify.outbox import NotDelivered


def is_loopback(host: str) -> bool:
    """Whether what is sent there never leaves this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def secret_in(path: str, what: str) -> str:
    """What a file holds, read for each delivery so that it can be replaced. Raises `NotDelivered`, without it."""
    try:
        secret = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is no text"
        raise NotDelivered(f"{what} {path} cannot be read: {problem}") from None
    if not secret:
        raise NotDelivered(f"{what} {path} is empty")
    return secret


def trusting(ca_file: str) -> ssl.SSLContext:
    """Whom to believe: the machine's authorities, or those of a file instead. Raises `NotDelivered`."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:  # ssl.SSLError is one
        raise NotDelivered(f"ca_file {ca_file} cannot be used: {error.strerror or error}") from None


def certificate_problem(error: BaseException | None) -> str:
    """What is wrong with the receiver's certificate, when that is behind the error; else ""."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {error.verify_message}"
        error = error.__cause__ or error.__context__
    return ""
