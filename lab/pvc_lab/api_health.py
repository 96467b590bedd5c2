# SPDX-License-Identifier: Apache-2.0
"""Whether a cluster's API serves and every node has reported, asked over HTTP like any client."""

from __future__ import annotations

import ssl

import httpx

REQUEST_TIMEOUT_S = 5.0


def is_serving(url: str, token: str, nodes: int, certificate: str = "") -> bool:
    """True once the API lists that many nodes, all alive and with the memory of a report."""
    verify = ssl.create_default_context(cafile=certificate) if certificate else True
    try:
        answer = httpx.get(
            f"{url}/api/v1/node",
            headers={"Authorization": f"Bearer {token}"},
            verify=verify,
            timeout=REQUEST_TIMEOUT_S,
            trust_env=False,
        )
    except httpx.TransportError:
        return False
    if answer.status_code != httpx.codes.OK:
        return False
    listed = answer.json()
    views = listed["nodes"] if isinstance(listed, dict) else listed
    return len(views) == nodes and all(view["liveness"] == "alive" and view["memory_total_mib"] for view in views)
