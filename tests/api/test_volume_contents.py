# SPDX-License-Identifier: Apache-2.0
"""What a volume holds is filled and read through the API as a stream of bytes, also when one side breaks off."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO

import falcon.testing
import httpx
import pytest
from api_cluster import ApiProcess, Cluster, eventually
from real_server import RealServer, real_server
from test_storage_volumes_api import POOL, add, served

from pvc_api import streams
from pvc_api.media import MAX_BODY_BYTES
from pvc_api.problems import BodyBrokenOff
from pvc_core.errors import StorageUnavailable
from pvc_core.model import VmState
from pvc_core.storage import StorageCapability, Volume
from pvc_core.testing.builders import a_node, a_vm
from pvc_core.testing.memory_storage import CHUNK_BYTES, MIB, MemoryBackend, MemoryStorage
from pvc_core.vm_states import VmEvent
from pvc_core.vm_volumes import VmVolume
from pvc_core.volume_claims import claims_on, keeping

OCTETS = {"Content-Type": "application/octet-stream"}
DATA = os.urandom(3 * MIB)
AT = f"{POOL}/disk/contents"


class Watched(MemoryBackend):
    """A backend that knows how much of a source it has been given, and whose storage can go away."""

    given_bytes = 0
    goes_away_after_bytes = 2**60

    def upload_volume(self, pool: str, name: str, source: BinaryIO, report: Callable[[int], None]) -> object:  # type: ignore[override]
        class Counted:
            @staticmethod
            def read(size: int) -> bytes:
                data = source.read(size)
                type(self).given_bytes += len(data)
                return data

        return super().upload_volume(pool, name, Counted(), report)  # type: ignore[arg-type]

    def download_volume(self, pool: str, name: str, target: BinaryIO, report: Callable[[int], None]) -> None:
        def told(done_bytes: int) -> None:
            if done_bytes > self.goes_away_after_bytes:
                raise StorageUnavailable("memory", "it is gone")

        super().download_volume(pool, name, target, told)


@pytest.fixture
def storage() -> MemoryStorage:
    Watched.given_bytes, Watched.goes_away_after_bytes = 0, 2**60
    return MemoryStorage(client=Watched)


@pytest.fixture
def process(cluster: Cluster, storage: MemoryStorage) -> Iterator[ApiProcess]:
    cluster.has([a_node("hv1"), a_node("hv2")], [a_vm("web1", state="stopped")])
    made = served(cluster, storage)
    yield made
    made.connection.close()


@pytest.fixture
def api(process: ApiProcess) -> Iterator[httpx.Client]:
    with process.client(process.token("operator")) as client:
        add(client, "disk", 4 * MIB)
        yield client


def pieces(data: bytes = DATA) -> Iterator[bytes]:
    for begin in range(0, len(data), 100_000):
        yield data[begin : begin + 100_000]


def test_what_is_filled_is_read_again_to_the_last_byte_of_the_volume(api: httpx.Client, process: ApiProcess) -> None:
    filled = api.put(AT, content=DATA, headers=OCTETS)
    assert filled.status_code == 200, filled.text
    assert filled.json()["reason"] == "volume disk of pool pool is filled with 3 MiB"
    held = api.get(AT)
    assert (held.headers["Content-Type"], held.headers["Content-Length"]) == (OCTETS["Content-Type"], str(4 * MIB))
    assert held.content == DATA + bytes(MIB)
    assert [line["outcome"] for line in process.events("audit")][-1] == filled.json()["reason"]


def test_a_body_in_chunks_of_which_nobody_says_how_many_fills_a_volume(api: httpx.Client) -> None:
    assert api.put(AT, content=pieces(), headers=OCTETS).status_code == 200
    assert api.get(AT).content[: len(DATA)] == DATA


def test_the_limit_for_bodies_stays_everywhere_else(api: httpx.Client) -> None:
    large = b" " * (MAX_BODY_BYTES + 1)
    assert api.put(AT, content=large, headers=OCTETS).status_code == 200
    for path in (POOL, f"{POOL}/disk/rename"):
        assert api.post(path, content=large, headers=OCTETS).json()["code"] == "too_large"
        assert api.post(path, content=pieces(), headers=OCTETS).json()["code"] == "length_required"


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        (f"{POOL}/none/contents", {}, 404, "not_found"),
        ("/storage/memory/pool/none/volume/disk/contents", {}, 404, "not_found"),
        (AT, {"Content-Type": "application/json"}, 415, "unsupported_media_type"),
        (AT, {"Content-Length": str(4 * MIB + 1)}, 409, "refused"),
        (AT, {"Authorization": "Bearer nobody"}, 401, "unauthenticated"),
    ],
)
def test_what_cannot_be_filled_is_refused_before_anything_is_read(
    api: httpx.Client, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = api.put(path, content=pieces(), headers={**OCTETS, **headers})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert Watched.given_bytes == 0


def test_a_viewer_neither_fills_nor_reads(process: ApiProcess, api: httpx.Client) -> None:
    with process.client(process.token("viewer")) as viewer:
        assert viewer.put(AT, content=DATA, headers=OCTETS).status_code == 403
        assert viewer.get(AT).status_code == 403
    assert Watched.given_bytes == 0


def test_a_body_too_large_that_came_in_chunks_is_refused_in_the_end(api: httpx.Client) -> None:
    answer = api.put(AT, content=pieces(bytes(5 * MIB)), headers=OCTETS)
    assert (answer.status_code, answer.json()["code"]) == (409, "refused")


def test_the_disk_of_a_vm_is_filled_only_while_that_is_off(api: httpx.Client, cluster: Cluster) -> None:
    assert api.post("/vm/web1/volume", json={"backend": "memory", "pool": "pool", "name": "disk"}).status_code == 201
    assert api.put(AT, content=DATA, headers=OCTETS).status_code == 200
    taken = Watched.given_bytes
    cluster.happens("web1", VmEvent.START)
    eventually(lambda: api.get("/vm/web1").json()["state"] == VmState.STARTING)
    refused = api.put(AT, content=DATA, headers=OCTETS)
    assert (refused.status_code, refused.json()["code"]) == (409, "refused")
    assert f"is a disk of VM web1, which is {VmState.STARTING}: stop it first" in refused.json()["detail"]
    assert Watched.given_bytes == taken


def test_a_volume_that_is_being_removed_is_not_filled(api: httpx.Client, cluster: Cluster) -> None:
    assert api.post("/vm/web1/volume", json={"backend": "memory", "pool": "pool", "name": "disk"}).status_code == 201
    volume = VmVolume(device="", backend="memory", pool="pool", name="disk")
    (claim,) = claims_on(cluster.store, [volume]).values()
    cluster.store.transaction([keeping(claim, "removing", "now")])
    refused = api.put(AT, content=DATA, headers=OCTETS)
    assert (refused.status_code, "is being removed" in refused.json()["detail"]) == (409, True)
    assert Watched.given_bytes == 0


def test_a_volume_that_somebody_has_open_is_not_filled(api: httpx.Client, storage: MemoryStorage) -> None:
    with storage.attached(Volume("pool", "disk", 4 * MIB)):
        assert api.put(AT, content=DATA, headers=OCTETS).json()["code"] == "refused"
    assert Watched.given_bytes == 0


def test_so_many_streams_at_a_time_and_no_more(api: httpx.Client) -> None:
    with api.stream("GET", AT) as first:
        assert first.status_code == 200
        busy = api.get(AT)
        assert (busy.status_code, busy.json()["code"]) == (503, "too_many_streams")
        assert busy.headers["Retry-After"]
        assert api.get(POOL).status_code == 200
    assert api.get(AT).status_code == 200


def test_storage_that_goes_away_breaks_a_reader_off_who_has_begun(api: httpx.Client, process: ApiProcess) -> None:
    Watched.goes_away_after_bytes = 0
    with pytest.raises(StorageUnavailable):
        api.get(AT)
    assert process.events("answer_broken_off")[0]["problem"] == "the storage memory is not available: it is gone"
    Watched.goes_away_after_bytes = 2**60
    assert len(api.get(AT).content) == 4 * MIB


def test_the_document_says_that_bytes_are_taken_and_given(api: httpx.Client) -> None:
    path = "/api/v1/storage/memory/pool/{pool}/volume/{volume}/contents"
    found = api.get("/openapi.json").json()["paths"][path]
    assert list(found["put"]["requestBody"]["content"]) == [OCTETS["Content-Type"]]
    assert list(found["get"]["responses"]["200"]["content"]) == [OCTETS["Content-Type"]]
    assert "requestBody" not in found["get"]


def test_a_backend_without_the_capability_has_no_such_resource(cluster: Cluster) -> None:
    process = served(cluster, MemoryStorage(capabilities={StorageCapability.SHARED}))
    with process.client(process.token("operator")) as api:
        assert api.get(AT).json()["code"] == "no_such_route"
    process.connection.close()


# ------------------------------------------------------------------------------- the server of production


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path, require: Callable[[str], None]) -> Iterator[RealServer]:
    require("qemu-img")
    (tmp_path / "volumes").mkdir()
    pool = f'[plugin.directory.pools.vms]\nfolder = "{tmp_path}/volumes"\nshared = true\n'
    with real_server(tmp_path, cluster, pool) as running:
        yield running


DIRECTORY = "/storage/directory/pool/vms/volume"
SENT_BYTES = 120 * MIB


def sent(block: bytes = os.urandom(MIB), size_bytes: int = SENT_BYTES) -> Iterator[bytes]:
    for number in range(size_bytes // MIB):
        yield number.to_bytes(8) + block[8:]


def test_a_large_volume_passes_through_the_server_in_either_direction_without_filling_its_memory(
    server: RealServer,
) -> None:
    with server.client(server.token("operator")) as api:
        assert api.post(DIRECTORY, json={"name": "disk", "size_bytes": SENT_BYTES}).status_code == 201
        before_bytes = server.worker_rss_bytes
        most_bytes = before_bytes
        for headers in ({}, {"Content-Length": str(SENT_BYTES)}):

            def watched() -> Iterator[bytes]:
                nonlocal most_bytes
                for piece in sent():
                    most_bytes = max(most_bytes, server.worker_rss_bytes)
                    yield piece

            filled = api.put(f"{DIRECTORY}/disk/contents", content=watched(), headers={**OCTETS, **headers})
            assert filled.status_code == 200, filled.text
        with api.stream("GET", f"{DIRECTORY}/disk/contents") as held:
            assert int(held.headers["Content-Length"]) == SENT_BYTES
            read = held.iter_raw(MIB)
            for number, expected in enumerate(sent()):
                assert next(read) == expected, number
                most_bytes = max(most_bytes, server.worker_rss_bytes)
            assert list(read) == []
    assert most_bytes - before_bytes < 24 * MIB


def raw_put(server: RealServer, secret: str, length_bytes: int, body: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = (
        f"PUT /api/v1{DIRECTORY}/disk/contents HTTP/1.1",
        "Host: pvc",
        f"Authorization: Bearer {secret}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {length_bytes}",
    )
    connection.sendall("\r\n".join((*head, "", "")).encode() + body)
    return connection


def answered(connection: socket.socket) -> tuple[int, bytes]:
    with connection, HTTPResponse(connection) as answer:
        answer.begin()
        return answer.status, answer.read()


def test_a_body_shorter_than_it_said_and_a_sender_that_goes_away_end_in_an_error_and_leave_the_volume_usable(
    server: RealServer,
) -> None:
    secret = server.token("operator")
    with server.client(secret) as api:
        assert api.post(DIRECTORY, json={"name": "disk", "size_bytes": 8 * MIB}).status_code == 201
        short = raw_put(server, secret, 4 * MIB, DATA)
        short.shutdown(socket.SHUT_WR)
        status, text = answered(short)
        assert status == 400, text
        assert b'"code":"body_broken_off"' in text
        assert f"after {len(DATA)} of {4 * MIB} bytes".encode() in text
        assert b"nothing that can be relied on" in text

        gone = raw_put(server, secret, 4 * MIB, DATA)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        eventually(lambda: server.log.read_text().count('"body_broken_off"') >= 4, 20)
        again = api.put(f"{DIRECTORY}/disk/contents", content=DATA, headers=OCTETS)
        assert again.status_code == 200, again.text
        assert api.get(f"{DIRECTORY}/disk/contents").content[: len(DATA)] == DATA


def test_a_refused_body_is_answered_at_once_and_not_read(server: RealServer) -> None:
    secret = server.token("operator")
    with server.client(secret) as api:
        assert api.post(DIRECTORY, json={"name": "disk", "size_bytes": MIB}).status_code == 201
        for headers in ("viewer", "operator"):
            token = server.token("viewer") if headers == "viewer" else secret
            eventually(lambda token=token: api.get("/vm", headers={"Authorization": f"Bearer {token}"}).is_success)  # type: ignore[misc]
            # Nothing of the body is sent: an answer comes only from a server that does not wait for it.
            status, _ = answered(raw_put(server, token, 2**40, b""))
            assert status == (403 if headers == "viewer" else 409)


class Silent:
    """A sender of whom nothing comes."""

    def read(self, size: int) -> bytes:
        raise TimeoutError


@pytest.mark.parametrize(
    ("is_stopping", "problem"), [(False, "nothing has come for 60 s"), (True, "this process ends")]
)
def test_a_sender_that_says_nothing_is_given_up_and_so_is_everybody_when_the_process_ends(
    is_stopping: bool, problem: str
) -> None:
    body = streams.StreamBody(Silent(), 10, lambda: is_stopping)
    for _ in range(2):
        with pytest.raises(BodyBrokenOff, match=problem):
            body.read(1)


def test_neither_a_sender_nor_a_reader_is_waited_for_longer_than_a_minute() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        environ = falcon.testing.create_environ(method="PUT", headers={**OCTETS, "Content-Length": "1"})
        environ["gunicorn.socket"] = ours
        with streams.Streams(1, lambda: False).taking(falcon.Request(environ)):
            assert ours.gettimeout() == streams.SILENCE_S


def test_pieces_are_no_larger_than_the_backend_made_them(api: httpx.Client) -> None:
    api.put(AT, content=DATA, headers=OCTETS)
    with api.stream("GET", AT) as held:
        assert {len(piece) for piece in held.iter_raw()} == {CHUNK_BYTES}
