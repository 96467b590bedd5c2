# SPDX-License-Identifier: Apache-2.0
"""Who is let in: tokens and nothing like tokens; and what each role may do."""

from __future__ import annotations

import httpx
import msgspec
import pytest
from api_cluster import ApiProcess, Cluster, eventually

from pvc_core import layout
from pvc_core.token_record import TokenRecord

METHODS_BY_ROLE = {
    "viewer": [
        ("GET", "/vm"),
        ("GET", "/vm/web1"),
        ("GET", "/vm/web1/state"),
        ("GET", "/vm/web1/node"),
        ("GET", "/vm/web1/placement"),
        ("GET", "/vm/web1/plan"),
        ("GET", "/node/hv1/plan"),
        ("GET", "/cluster/capacity"),
        ("GET", "/cluster/placement"),
        ("GET", "/cluster/snapshot"),
        ("GET", "/cluster/plan"),
        ("GET", "/cluster/balance"),
        ("GET", "/vm/web1/definition"),
        ("GET", "/vm/web1/volume"),
        ("GET", "/vm/web1/snapshot"),
        ("GET", "/vm/web1/snapshot/monday"),
        ("GET", "/cluster/volume-repair"),
        ("GET", "/node"),
        ("GET", "/node/hv1"),
        ("GET", "/node/hv1/domain-state"),
        ("GET", "/node/hv1/fence-device"),
        ("GET", "/cluster"),
        ("GET", "/cluster/settings"),
        ("GET", "/cluster/maintenance"),
        ("GET", "/cluster/rule"),
        ("GET", "/cluster/rule/nobody"),
        ("GET", "/events"),
        ("GET", "/storage"),
        ("GET", "/storage/directory/pool"),
        ("GET", "/storage/directory/pool/vms/volume"),
        ("GET", "/storage/directory/pool/vms/volume/disk"),
        ("GET", "/storage/directory/pool/vms/volume/disk/snapshot"),
        ("GET", "/task"),
        ("GET", "/task/42"),
        ("GET", "/storage/ceph/status"),
        ("GET", "/storage/ceph/util"),
        ("GET", "/storage/ceph/pool"),
        ("GET", "/storage/ceph/osd"),
        ("GET", "/storage/ceph/pool/vms/volume"),
        ("GET", "/storage/ceph/pool/vms/volume/disk"),
        ("GET", "/storage/ceph/pool/vms/volume/disk/snapshot"),
        ("GET", "/plugin"),
        ("GET", "/plugin/selectors"),
        ("GET", "/openapi.json"),
    ],
    "operator": [
        ("POST", "/vm"),
        ("POST", "/node/hv1/fence"),
        ("POST", "/node/hv1/fence-test"),
        ("POST", "/node/hv1/maintenance"),
        ("POST", "/cluster/maintenance"),
        ("POST", "/vm/web1"),
        ("PUT", "/vm/web1"),
        ("DELETE", "/vm/web1"),
        ("POST", "/vm/web1/state"),
        ("POST", "/vm/web1/node"),
        ("POST", "/vm/web1/rename"),
        ("POST", "/vm/web1/volume"),
        ("POST", "/vm/web1/snapshot"),
        ("POST", "/vm/web1/snapshot/monday/rollback"),
        ("DELETE", "/vm/web1/snapshot/monday"),
        ("POST", "/cluster/volume-repair"),
        ("DELETE", "/vm/web1/volume/vda"),
        ("POST", "/vm/web1/volume/vda/rename"),
        ("GET", "/storage/directory/node/hv1/pool/vms/volume"),
        ("POST", "/storage/directory/node/hv1/pool/vms/volume"),
        ("DELETE", "/storage/directory/node/hv1/pool/vms/volume/disk"),
        ("POST", "/storage/directory/pool/vms/volume"),
        ("DELETE", "/storage/directory/pool/vms/volume/disk"),
        ("POST", "/storage/directory/pool/vms/volume/disk/rename"),
        ("GET", "/storage/directory/pool/vms/volume/disk/contents"),
        ("PUT", "/storage/directory/pool/vms/volume/disk/contents"),
        ("GET", "/storage/directory/repair"),
        ("POST", "/storage/directory/repair"),
        ("POST", "/storage/directory/pool/vms/volume/disk/resize"),
        ("POST", "/storage/directory/pool/vms/volume/disk/clone"),
        ("POST", "/storage/directory/pool/vms/volume/disk/snapshot"),
        ("DELETE", "/storage/directory/pool/vms/volume/disk/snapshot/old"),
        ("POST", "/storage/directory/pool/vms/volume/disk/snapshot/old/rename"),
        ("POST", "/storage/directory/pool/vms/volume/disk/snapshot/old/protect"),
        ("POST", "/storage/directory/pool/vms/volume/disk/snapshot/old/rollback"),
        ("POST", "/storage/ceph/pool/vms/volume"),
        ("DELETE", "/storage/ceph/pool/vms/volume/disk"),
        ("POST", "/storage/ceph/pool/vms/volume/disk/rename"),
        ("GET", "/storage/ceph/pool/vms/volume/disk/contents"),
        ("PUT", "/storage/ceph/pool/vms/volume/disk/contents"),
        ("GET", "/storage/ceph/repair"),
        ("POST", "/storage/ceph/repair"),
        ("POST", "/storage/ceph/pool/vms/volume/disk/resize"),
        ("POST", "/storage/ceph/pool/vms/volume/disk/clone"),
        ("POST", "/storage/ceph/pool/vms/volume/disk/snapshot"),
        ("DELETE", "/storage/ceph/pool/vms/volume/disk/snapshot/old"),
        ("POST", "/storage/ceph/pool/vms/volume/disk/snapshot/old/rename"),
        ("POST", "/storage/ceph/pool/vms/volume/disk/snapshot/old/protect"),
        ("POST", "/storage/ceph/pool/vms/volume/disk/snapshot/old/rollback"),
        ("POST", "/node/hv1/domain-state"),
        ("POST", "/cluster/plan"),
        ("DELETE", "/cluster/plan"),
        ("DELETE", "/task/42"),
    ],
    "admin": [
        ("POST", "/storage/ceph/pool"),
        ("POST", "/storage/ceph/pool/vms"),
        ("DELETE", "/storage/ceph/pool/vms"),
        ("POST", "/storage/ceph/osd"),
        ("POST", "/storage/ceph/osd/osd.7"),
        ("DELETE", "/storage/ceph/osd/osd.7"),
        ("POST", "/storage/ceph/flag/noout"),
        ("POST", "/node/hv1/fence-device"),
        ("DELETE", "/node/hv1/fence-device"),
        ("DELETE", "/node/hv1/fence-device/7"),
        ("POST", "/cluster/settings"),
        ("POST", "/cluster/notify-test"),
        ("POST", "/cluster/rule"),
        ("PUT", "/cluster/rule/nobody"),
        ("DELETE", "/cluster/rule/nobody"),
        ("GET", "/token"),
        ("POST", "/token"),
        ("DELETE", "/token/nobody"),
    ],
}
ROLES = tuple(METHODS_BY_ROLE)
EVERY_METHOD = [(role, method, path) for role, found in METHODS_BY_ROLE.items() for method, path in found]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        " ",
        "Bearer",
        "Bearer ",
        "bearer\t",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer pvc_",
        "Bearer pvc__",
        "Bearer _",
    ],
)
def test_an_empty_or_foreign_header_does_not_log_in(process: ApiProcess, header: str | None) -> None:
    process.token("admin")
    with process.client() as client:
        answer = client.get("/vm", headers={"Authorization": header} if header is not None else {})
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthenticated"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_only_the_whole_token_logs_in(process: ApiProcess) -> None:
    secret = process.token("admin")
    name = "pvc_admin-token_"
    wrong = [
        secret[:-1],
        secret + "0",
        secret.upper(),
        secret[4:],
        name,
        name + "0" * 64,
        secret.replace("admin", "other"),
    ]
    for attempt in wrong:
        with process.client(attempt) as client:
            assert client.get("/vm").status_code == 401, attempt
    with process.client(secret) as client:
        assert client.get("/vm").status_code == 200


def test_the_scheme_is_written_in_any_case(process: ApiProcess) -> None:
    secret = process.token("viewer")
    with process.client() as client:
        assert client.get("/vm", headers={"Authorization": f"bEARER  {secret}"}).status_code == 200


@pytest.mark.parametrize(("needed", "method", "path"), EVERY_METHOD)
def test_a_method_is_open_to_its_role_and_those_above(process: ApiProcess, needed: str, method: str, path: str) -> None:
    for role in ROLES:
        with process.client(process.token(role)) as client:  # type: ignore[arg-type]
            answer = client.request(method, path, json=None if method in ("GET", "DELETE") else {"nonsense": 1})
        may = ROLES.index(role) >= ROLES.index(needed)
        assert (answer.status_code != 403) == may, f"{role}: {answer.text}"
        if not may:
            assert answer.json()["code"] == "forbidden"
            assert answer.json()["needed"] == needed


def test_every_method_of_the_api_is_tried_above(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    served = {
        (method.upper(), path.removeprefix("/api/v1").translate(str.maketrans("", "", "{}")))
        for path, operations in paths.items()
        for method in operations
    } - {("GET", "/health")}
    names = {"web1": "vm", "hv1": "node", "selectors": "name", "nobody": "name", "7": "number"}
    names |= {
        "vms": "pool",
        "disk": "volume",
        "old": "snapshot",
        "monday": "name",
        "vda": "device",
        "osd.7": "osd",
        "noout": "flag",
        "42": "task",
    }
    tried = {(method, "/".join(names.get(part, part) for part in path.split("/"))) for _, method, path in EVERY_METHOD}
    assert tried == served


def test_health_needs_no_token(process: ApiProcess) -> None:
    with process.client() as client:
        assert client.get("/health").status_code == 200


def test_a_token_is_refused_once_it_has_expired(process: ApiProcess, api: httpx.Client) -> None:
    made = api.post("/token", json={"name": "brief", "role": "viewer", "expires_in_s": 60}).json()
    assert made["token"]["expires_at"] == "2026-01-31T12:01:00Z"
    with process.client(made["secret"]) as client:
        process.clock.now = "2026-01-31T12:00:59Z"
        assert client.get("/vm").status_code == 200
        process.clock.now = "2026-01-31T12:01:00Z"
        assert client.get("/vm").status_code == 401
    assert [token["expired"] for token in api.get("/token").json()["tokens"]] == [False, True]


@pytest.mark.parametrize("expires_at", ["soon", "2026-13-45", "2020-01-01T00:00:00"])
def test_a_token_whose_expiry_cannot_be_read_or_names_no_zone_does_not_crash(
    process: ApiProcess, cluster: Cluster, expires_at: str
) -> None:
    secret = process.token("admin")
    record = msgspec.json.decode(cluster.store.get(layout.token("admin-token")).data, type=TokenRecord)  # type: ignore[union-attr]
    cluster.put(layout.token("admin-token"), msgspec.structs.replace(record, expires_at=expires_at))
    with process.client(secret) as client:
        eventually(lambda: client.get("/vm").status_code == 401)


def test_a_removed_token_is_refused_at_once(process: ApiProcess, api: httpx.Client) -> None:
    secret = process.token("viewer")
    assert api.delete("/token/viewer-token").json()["reason"] == "token viewer-token is removed"
    with process.client(secret) as client:
        assert client.get("/vm").status_code == 401


def test_a_token_made_by_another_process_is_known_soon_and_unknown_soon_after_its_removal(
    process: ApiProcess, cluster: Cluster
) -> None:
    other = ApiProcess(cluster.registry.open_store(cluster.url), cluster.registry)
    other.connection.open()
    secret = other.token("viewer")
    with process.client(secret) as client:
        eventually(lambda: client.get("/vm").status_code == 200)
        other.tokens.remove("viewer-token")
        eventually(lambda: client.get("/vm").status_code == 401)
    other.connection.close()


def test_the_secret_is_nowhere_in_the_store_nor_in_the_log(
    process: ApiProcess, api: httpx.Client, cluster: Cluster
) -> None:
    secret = api.post("/token", json={"name": "ci", "role": "operator"}).json()["secret"]
    with process.client(secret) as client:
        client.get("/vm")
    entry = cluster.store.get(layout.token("ci"))
    assert entry is not None
    random = secret.rpartition("_")[2]
    assert len(random) == 64
    assert random not in entry.data.decode()
    assert random not in str(process.log.entries)
    assert random not in api.get("/token").text


def test_a_second_token_of_that_name_is_refused(api: httpx.Client) -> None:
    assert api.post("/token", json={"name": "ci", "role": "viewer"}).status_code == 201
    again = api.post("/token", json={"name": "ci", "role": "admin"})
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")


def test_names_of_tokens_may_hold_underscores(process: ApiProcess, api: httpx.Client) -> None:
    secret = api.post("/token", json={"name": "a_b_c", "role": "viewer"}).json()["secret"]
    with process.client(secret) as client:
        assert client.get("/vm").status_code == 200


def test_a_token_record_that_does_not_parse_lets_nobody_in_and_is_listed(
    process: ApiProcess, api: httpx.Client, cluster: Cluster
) -> None:
    secret = process.token("viewer")
    cluster.put(layout.token("viewer-token"), b'{"role": "emperor"}')
    with process.client(secret) as client:
        eventually(lambda: client.get("/vm").status_code == 401)
    assert api.get("/token").json()["broken"][0]["key"] == "/tokens/viewer-token"
    assert api.delete("/token/viewer-token").status_code == 200
    assert api.get("/token").json()["broken"] == []


def test_removing_a_token_that_is_none_names_those_there_are(api: httpx.Client) -> None:
    answer = api.delete("/token/nix")
    assert answer.status_code == 404
    assert answer.json()["known"] == ["admin-token"]


def test_checking_a_token_costs_no_request(process: ApiProcess, api: httpx.Client) -> None:
    process.store.reset()
    assert api.get("/node").status_code == 200
    assert process.store.calls == ()
