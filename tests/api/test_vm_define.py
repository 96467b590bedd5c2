# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import httpx
from api_cluster import xml


def test_smoke(api: httpx.Client) -> None:
    answer = api.post("/vm", json={"definition": xml(), "metadata": {"node_limit": "hv2, hv1", "tags": ["a"]}})
    print(answer.status_code, answer.headers, answer.text)
    for path in ("/vm", "/vm/web1", "/vm/web1/state", "/vm/web1/node", "/vm/web1/placement", "/vm/web1/definition", "/node", "/node/hv1", "/cluster", "/cluster/settings", "/plugin", "/plugin/mem", "/token", "/health", "/nix", "/vm/nix"):
        a = api.get(path)
        print(path, a.status_code, a.text[:1500])
    a = api.get("/openapi.json")
    open("/tmp/openapi.json", "w").write(a.text)
    print(a.status_code, a.text[:300])
    assert 0
