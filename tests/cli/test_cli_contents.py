# SPDX-License-Identifier: Apache-2.0
"""`pvc storage ... volume upload` and `download` as a person runs them, and what is left when one breaks off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from acme_machine import SCRIPT, AcmeMachine
from cli_runner import Cli, FakeApi, problem

MIB = 2**20
Pvc = Callable[..., "subprocess.CompletedProcess[bytes]"]
DATA = os.urandom(2 * MIB + 4096)


@pytest.fixture
def pvc(tmp_path: Path, require: Callable[[str], None]) -> Pvc:
    """On a machine with a shared pool; the API is in the same process."""
    require("qemu-img")
    AcmeMachine.make(tmp_path)
    (tmp_path / "volumes").mkdir()
    with (tmp_path / "pvc.toml").open("a") as file:
        file.write(f'[plugin.directory.pools.vms]\nfolder = "{tmp_path}/volumes"\nshared = true\n')

    def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, "storage", "directory", *words],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PVC_CONFIG": str(tmp_path / "pvc.toml")},
            timeout=60,
        )

    (tmp_path / "disk.raw").write_bytes(DATA)
    return run


def test_a_volume_is_made_of_a_file_and_becomes_one(pvc: Pvc, tmp_path: Path) -> None:
    filled = pvc("volume", "upload", "vms", "web1", "disk.raw", "--create")
    assert filled.returncode == 0, filled.stderr
    assert filled.stdout.decode().strip() == "volume web1 of pool vms is filled with 2.004 MiB"
    assert b"uploading web1" in filled.stderr
    written = pvc("volume", "download", "vms", "web1", "back.raw")
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "back.raw").read_bytes() == DATA
    assert not (tmp_path / "back.raw.part").exists()

    again = pvc("volume", "download", "vms", "web1", "back.raw")
    assert (again.returncode, b"--force" in again.stderr) == (2, True)
    (tmp_path / "back.raw").write_bytes(b"old")
    assert pvc("volume", "download", "vms", "web1", "back.raw", "--force").returncode == 0
    assert (tmp_path / "back.raw").read_bytes() == DATA


def test_pipes_are_as_good_as_files(pvc: Pvc) -> None:
    unknown = pvc("volume", "upload", "vms", "web1", "-", "--create", stdin=DATA)
    assert (unknown.returncode, b"size: is needed with --create" in unknown.stderr) == (2, True)
    filled = pvc("volume", "upload", "vms", "web1", "-", "--create", "--size", "4MiB", stdin=DATA)
    assert filled.returncode == 0, filled.stderr
    assert pvc("volume", "download", "vms", "web1", "-").stdout == DATA + bytes(4 * MIB - len(DATA))


def test_an_image_in_a_format_of_its_own_is_refused_with_what_to_do(pvc: Pvc, tmp_path: Path) -> None:
    (tmp_path / "disk.qcow2").write_bytes(b"QFI\xfb" + bytes(2044))
    refused = pvc("volume", "upload", "vms", "web1", "disk.qcow2", "--create")
    assert refused.returncode == 2
    assert b"qemu-img convert -f qcow2 -O raw disk.qcow2 disk.raw" in refused.stderr
    assert pvc("volume", "list", "vms").stdout.decode().strip() == "pool vms has no volumes"
    meant = pvc("volume", "upload", "vms", "web1", "disk.qcow2", "--create", "--as-it-is")
    assert meant.returncode == 0, meant.stderr


def test_of_a_file_that_does_not_fit_nothing_is_left(pvc: Pvc) -> None:
    refused = pvc("volume", "upload", "vms", "web1", "disk.raw", "--create", "--size", "1MiB")
    assert (refused.returncode, b"holds 1048576 bytes" in refused.stderr) == (5, True)
    assert pvc("volume", "list", "vms").stdout.decode().strip() == "pool vms has no volumes"
    assert pvc("volume", "upload", "vms", "web1", "none.raw").returncode == 2
    assert pvc("volume", "upload", "vms", "web1", "disk.raw").returncode == 4


AT = "/storage/directory/pool/vms/volume/web1/contents"


class Short(httpx.SyncByteStream):
    """An answer that ends in the middle, with an error or without."""

    def __init__(self, error: str = "") -> None:
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield DATA[:MIB]
        if self._error:
            raise httpx.RemoteProtocolError(self._error)


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (
            httpx.Response(200, headers={"Content-Length": str(len(DATA))}, stream=Short("peer closed")),
            7,
            "peer closed",
        ),
        (
            httpx.Response(200, headers={"Content-Length": str(len(DATA))}, stream=Short()),
            7,
            f"after {MIB} of {len(DATA)}",
        ),
        (problem(503, "storage_unavailable", "the storage is away"), 7, "the storage is away"),
    ],
)
def test_a_download_that_fails_leaves_no_file(
    run: Cli, home: Path, answer: httpx.Response, status: int, said: str
) -> None:
    file = home / "disk.raw"
    ran = run(
        "storage", "directory", "volume", "download", "vms", "web1", str(file), api=FakeApi({f"GET {AT}": answer})
    )
    assert (ran.status, said in ran.err) == (status, True), ran.err
    assert list(home.glob("disk*")) == []


def test_a_download_does_not_take_the_file_of_another_one(run: Cli, home: Path) -> None:
    (home / "disk.raw.part").write_bytes(b"half")
    ran = run("storage", "directory", "volume", "download", "vms", "web1", str(home / "disk.raw"), api=FakeApi({}))
    assert (ran.status, "is being written by another download" in ran.err) == (2, True)
    assert (home / "disk.raw.part").read_bytes() == b"half"


def test_a_volume_that_was_made_for_an_upload_goes_with_it_and_is_named_where_it_cannot(run: Cli, home: Path) -> None:
    (home / "disk.raw").write_bytes(DATA)
    words = ("storage", "directory", "volume", "upload", "vms", "web1", str(home / "disk.raw"), "--create")
    volumes = "/storage/directory/pool/vms/volume"
    answers = {
        f"POST {volumes}": {"reason": "made", "volume": None},
        f"PUT {AT}": httpx.ReadError("reset"),
        f"DELETE {volumes}/web1": {"reason": "removed", "volume": None},
    }
    api = FakeApi(answers)
    assert run(*words, api=api).status == 7
    assert [asked.method for asked in api.asked] == ["POST", "PUT", "DELETE"]
    left = run(*words, api=FakeApi({**answers, f"DELETE {volumes}/web1": problem(409, "refused", "is in use")}))
    assert "which was made for it, is still in pool vms: is in use" in left.err
