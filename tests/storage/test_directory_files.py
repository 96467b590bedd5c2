# SPDX-License-Identifier: Apache-2.0
"""What the backend `directory` does with the files of a pool's folder, its own and those of others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, PluginError, Refused
from pvc_core.plugin_types import PluginOptions
from pvc_core.registry import Registry, installed_plugins
from pvc_core.storage import StorageCapability, StorageSite
from pvc_storage_backends.directory.folders import PoolFolder
from pvc_storage_backends.directory.locks import locked, repairing
from pvc_storage_backends.directory.options import DEFAULT_FOLDER, Options, PoolOptions
from pvc_storage_backends.directory.users import users_of
from storage.directory_storage import POOL, open_backend, opened_by_a_guest

MIB = 2**20


@pytest.fixture(autouse=True)
def qemu_img(require: Callable[[str], None]) -> None:
    require("qemu-img")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With what might trip a command line."""
    made = tmp_path / "a pool, with 'all'"
    made.mkdir()
    return made


@pytest.fixture
def backend(folder: Path) -> Any:
    return open_backend(folder)


def qemu_img_run(*arguments: object) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True)


def contents_of(backend: Any, name: str) -> bytes:
    held = BytesIO()
    backend.download_volume(POOL, name, held, lambda _: None)
    return held.getvalue()


def upload(backend: Any, name: str, data: bytes) -> None:
    backend.upload_volume(POOL, name, BytesIO(data), lambda _: None)


# ------------------------------------------------------------------------------------------ other people's


def test_an_image_that_somebody_puts_into_the_folder_is_a_volume(backend: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"made elsewhere".ljust(MIB, b"\0"))
    qemu_img_run("convert", "-f", "raw", "-O", "qcow2", tmp_path / "raw", folder / "web1.qcow2")
    assert [(volume.name, volume.size_bytes) for volume in backend.volumes(POOL)] == [("web1", MIB)]
    assert contents_of(backend, "web1")[:14] == b"made elsewhere"
    backend.create_snapshot(POOL, "web1", "before")
    backend.rename_volume(POOL, "web1", "web2")
    assert [each.name for each in backend.snapshots(POOL, "web2")] == ["before"]


def test_files_that_are_no_volumes_are_neither_listed_nor_touched(backend: Any, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.qcow2"
    qemu_img_run("create", "-f", "qcow2", outside, "1M")
    (folder / "linked.qcow2").symlink_to(outside)
    (folder / "folder.qcow2").mkdir()
    (folder / "notes.txt").write_text("keep")
    (folder / "raw.img").write_bytes(b"x" * 1000)
    (folder / ".hidden.qcow2").write_bytes(b"x")
    (folder / "bad name.qcow2").write_bytes(b"x")
    before = sorted(path.name for path in folder.iterdir())
    assert backend.volumes(POOL) == ()
    for name in ("linked", "folder"):
        with pytest.raises(NotFound):
            backend.remove_volume(POOL, name)
        with pytest.raises(AlreadyExists):
            backend.create_volume(POOL, name, MIB)
    backend.mend(POOL)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, ".pvc-lock"])
    assert outside.exists()


def test_a_file_that_is_no_image_hides_no_volume_and_says_what_it_is(backend: Any, folder: Path) -> None:
    backend.create_volume(POOL, "good", MIB)
    (folder / "broken.qcow2").write_bytes(b"no image at all")
    assert [volume.name for volume in backend.volumes(POOL)] == ["good"]
    with pytest.raises(PluginError, match="not in qcow2 format"):
        backend.volume(POOL, "broken")
    with pytest.raises(AlreadyExists):
        backend.create_volume(POOL, "broken", MIB)


def test_an_upload_is_bytes_and_never_an_image_that_could_name_files_of_this_host(backend: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret".ljust(MIB, b"\0"))
    qemu_img_run("create", "-f", "qcow2", "-b", secret, "-F", "raw", tmp_path / "trap")
    image = (tmp_path / "trap").read_bytes()
    backend.create_volume(POOL, "disk", MIB)
    upload(backend, "disk", image)
    assert contents_of(backend, "disk")[: len(image)] == image


# ---------------------------------------------------------------------------------------------- contents


def test_what_is_longer_than_a_piece_and_ends_within_a_sector_leaves_the_rest_as_it_was(backend: Any) -> None:
    backend.create_volume(POOL, "disk", 66 * MIB)
    upload(backend, "disk", b"\xff" * (66 * MIB))
    data = bytes(range(251)) * ((65 * MIB + 100) // 251)
    upload(backend, "disk", data)
    held = contents_of(backend, "disk")
    assert held[: len(data)] == data
    assert held[len(data) :] == b"\xff" * (66 * MIB - len(data))


def test_an_upload_that_breaks_off_leaves_what_was_there(backend: Any, folder: Path) -> None:
    class BreaksOff(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise ConnectionResetError("gone")
            return super().read(size)

    backend.create_volume(POOL, "disk", 4 * MIB)
    upload(backend, "disk", b"before")
    with pytest.raises(ConnectionResetError):
        backend.upload_volume(POOL, "disk", BreaksOff(b"x" * 2 * MIB), lambda _: None)
    assert contents_of(backend, "disk")[:7] == b"before\0"
    assert sorted(path.name for path in folder.iterdir()) == [".pvc-lock", "disk.qcow2"]


# ------------------------------------------------------------------------------------------------- in use


@pytest.mark.parametrize(
    "call",
    [
        lambda backend: backend.remove_volume(POOL, "disk"),
        lambda backend: backend.rename_volume(POOL, "disk", "new"),
        lambda backend: backend.resize_volume(POOL, "disk", 4 * MIB),
        lambda backend: backend.clone_volume(POOL, "disk", "new"),
        lambda backend: upload(backend, "disk", b"x"),
        lambda backend: contents_of(backend, "disk"),
        lambda backend: backend.create_snapshot(POOL, "disk", "second"),
        lambda backend: backend.roll_back(POOL, "disk", "first"),
        lambda backend: backend.remove_snapshot(POOL, "disk", "first"),
    ],
)
def test_a_volume_in_use_is_left_alone_and_the_refusal_names_who_has_it(
    backend: Any, folder: Path, call: Callable[[Any], object]
) -> None:
    backend.create_volume(POOL, "disk", MIB)
    backend.create_snapshot(POOL, "disk", "first")
    with opened_by_a_guest(folder / "disk.qcow2"):
        before = sorted(path.name for path in folder.iterdir())
        assert [volume.name for volume in backend.volumes(POOL)] == ["disk"]
        with pytest.raises(Refused, match="in use by qemu-nbd"):
            call(backend)
        assert sorted(path.name for path in folder.iterdir()) == before


def test_a_guest_is_called_by_its_name(tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    image.write_bytes(b"")
    process = tmp_path / "proc" / "4711"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "9").symlink_to(image)
    (process / "cmdline").write_bytes(b"/usr/bin/qemu-system-x86_64\0-name\0guest=web1,debug-threads=on\0-S\0")
    assert users_of(image, tmp_path / "proc") == "VM web1"


# ------------------------------------------------------------------------------------------ several at once

CREATING = """
import sys
from storage.directory_storage import POOL, open_backend
from pathlib import Path
from pvc_core.errors import AlreadyExists
backend = open_backend(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for n in range(5):
    try:
        backend.create_volume(POOL, f"disk{n}", 2**20 * int(sys.argv[2]))
        print("won", flush=True)
    except AlreadyExists:
        print("lost", flush=True)
"""


def test_of_processes_that_make_the_same_volume_at_once_exactly_one_wins(folder: Path, backend: Any) -> None:
    tests = Path(__file__).parents[1]
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", CREATING, str(folder), str(size_mib)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tests,
        )
        for size_mib in (1, 2, 3)
    ]
    assert [maker.stdout.readline() for maker in makers if maker.stdout] == ["ready\n"] * 3
    for maker in makers:
        assert maker.stdin
        maker.stdin.write("go\n")
        maker.stdin.flush()
    said = [maker.communicate(timeout=60)[0].split() for maker in makers]
    assert [sorted(each) for each in zip(*said, strict=True)] == [["lost", "lost", "won"]] * 5
    sizes_mib = [volume.size_bytes // MIB for volume in backend.volumes(POOL)]
    assert sizes_mib == [1 + each.index("won") for each in zip(*said, strict=True)]


def test_what_is_being_worked_on_is_refused_after_a_while_and_what_is_read_may_be_read(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with locked(file, "one"):
        for mine in ({"names": ["one"]}, {"names": [], "reading": ["one"]}):
            with pytest.raises(Refused, match="volume one"), _locked(file, **mine):
                pass
        with pytest.raises(Refused), repairing(file, patience_s=0):
            pass
        with locked(file, "two", patience_s=0):
            pass
    with locked(file, reading=["one"]):
        with locked(file, reading=["one"], patience_s=0):
            pass
        with pytest.raises(Refused), locked(file, "one", patience_s=0):
            pass
    with repairing(file, patience_s=0), pytest.raises(Refused), locked(file, "one", patience_s=0):
        pass


def _locked(file: Path, names: list[str], reading: tuple[str, ...] = ()) -> Any:
    return locked(file, *names, reading=reading, patience_s=0)


# ---------------------------------------------------------------------------------------------- snapshots


def test_a_volume_is_rolled_back_to_its_last_snapshot_only_and_the_refusal_names_the_later_ones(backend: Any) -> None:
    backend.create_volume(POOL, "disk", MIB)
    for name in ("a", "b", "c"):
        backend.create_snapshot(POOL, "disk", name)
    with pytest.raises(Refused, match="to be removed first: b, c"):
        backend.roll_back(POOL, "disk", "a")


def test_removing_a_snapshot_between_others_changes_no_contents(backend: Any) -> None:
    backend.create_volume(POOL, "disk", MIB)
    for name in ("a", "b", "c"):
        upload(backend, "disk", name.encode() * (300_000 if name == "a" else 100_000))
        backend.create_snapshot(POOL, "disk", name)
    backend.resize_volume(POOL, "disk", 2 * MIB)
    upload(backend, "disk", b"now")
    held = contents_of(backend, "disk")
    backend.remove_snapshot(POOL, "disk", "b")
    assert contents_of(backend, "disk") == held
    backend.roll_back(POOL, "disk", "c")
    assert contents_of(backend, "disk")[:300_000] == b"c" * 100_000 + b"a" * 200_000
    backend.remove_snapshot(POOL, "disk", "c")
    backend.roll_back(POOL, "disk", "a")
    assert contents_of(backend, "disk")[:300_000] == b"a" * 300_000


def test_mending_removes_what_is_left_over_and_no_layer_while_a_volume_cannot_be_read(
    backend: Any, folder: Path
) -> None:
    backend.create_volume(POOL, "disk", MIB)
    backend.create_snapshot(POOL, "disk", "kept")
    backend.create_volume(POOL, "other", MIB)
    backend.create_snapshot(POOL, "other", "lost")
    image = (folder / "other.qcow2").read_bytes()
    (folder / "other.qcow2").write_bytes(b"broken")
    (folder / ".pvc-new-1234.qcow2").write_bytes(b"half")
    found = backend.leftovers(POOL)
    assert [each.what.split(",")[0] for each in found] == [".pvc-new-1234.qcow2", "volume other cannot be read"]
    assert [bool(each.remedy) for each in found] == [True, False]
    (still,) = backend.mend(POOL)
    assert (still.what, bool(still.problem)) == ("volume other cannot be read", True)
    (folder / "other.qcow2").write_bytes(image)
    assert [each.name for each in backend.snapshots(POOL, "other")] == ["lost"]
    (folder / "other.qcow2").unlink()
    assert len(backend.leftovers(POOL)) == 2
    assert backend.mend(POOL) == ()
    assert backend.leftovers(POOL) == ()
    assert [each.name for each in backend.snapshots(POOL, "disk")] == ["kept"]


# ------------------------------------------------------------------------------------------ configuration


def opened_with(options: Options) -> Any:
    entry = Registry(installed_plugins([])).storage_backends["directory"]
    return entry.open(StorageSite("hv1", PluginOptions(machine=options)))


def test_it_is_shared_when_all_its_pools_are_and_says_of_each_whether_it_is(tmp_path: Path) -> None:
    own, nfs = PoolOptions(str(tmp_path / "own")), PoolOptions(str(tmp_path / "nfs"), shared=True)
    mixed = opened_with(Options(pools={"own": own, "nfs": nfs}))
    assert StorageCapability.SHARED not in mixed.capabilities
    assert [(pool, mixed.is_shared(pool)) for pool in mixed.pools()] == [("nfs", True), ("own", False)]
    assert StorageCapability.SHARED in opened_with(Options(pools={"nfs": nfs})).capabilities


def test_without_configuration_there_is_one_pool_of_each_nodes_own() -> None:
    backend = opened_with(Options())
    assert backend.pools() == ("default",)
    assert not backend.is_shared("default")
    assert DEFAULT_FOLDER == "/var/lib/pvc/volumes"


def test_only_the_folder_that_nobody_has_configured_is_made(tmp_path: Path) -> None:
    PoolFolder("default", tmp_path / "deep" / "default", is_default=True).be_there()
    assert (tmp_path / "deep" / "default").is_dir()
    backend = open_backend(tmp_path / "unmounted")
    health = backend.health()
    assert (health.usable, health.detail) == (
        False,
        f"pool {POOL}: its folder {tmp_path / 'unmounted'} is not there",
    )
    with pytest.raises(Refused, match="is not there"):
        backend.create_volume(POOL, "disk", MIB)
    assert not (tmp_path / "unmounted").exists()


def test_without_qemu_img_it_says_what_to_install(tmp_path: Path) -> None:
    backend = opened_with(Options(pools={POOL: PoolOptions(str(tmp_path))}, programs=(str(tmp_path),)))
    assert "install it, on Debian the package qemu-utils" in backend.health().detail
    with pytest.raises(Refused, match="there is no qemu-img in"):
        backend.create_volume(POOL, "disk", MIB)
    assert backend.volumes(POOL) == ()


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"pools": {"a": {"folder": "relative"}}}, "no whole path"),
        ({"pools": {"a b": {"folder": "/x"}}}, "a pool cannot be called 'a b'"),
        ({"pools": {"a": {"folder": "/x"}, "b": {"folder": "/x/"}}}, "two pools have the folder /x"),
        ({"pools": {"a": {"folder": "/x", "shard": True}}}, "shard"),
        ({"pools": {"a": {}}}, "folder"),
    ],
)
def test_a_wrong_configuration_costs_the_backend_and_says_what_is_wrong(section: Any, problem: str) -> None:
    registry = Registry(installed_plugins([]), sections={"directory": section})
    assert "directory" not in registry.storage_backends
    assert any(problem in each for each in registry.problems), registry.problems


def test_no_name_leads_out_of_the_folder(backend: Any, tmp_path: Path) -> None:
    for name in ("../outside", "/etc/passwd", "..", "a/../../b"):
        for call in (backend.volume, backend.remove_volume):
            with pytest.raises(NotFound):
                call(POOL, name)
        with pytest.raises(InvalidInput):
            backend.create_volume(POOL, name, MIB)
    assert not (tmp_path / "outside.qcow2").exists()
