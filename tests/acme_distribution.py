# SPDX-License-Identifier: Apache-2.0
"""Writes a third party's distribution: a storage backend, its commands and its resources of the API, by entry point."""

from __future__ import annotations

import textwrap
from pathlib import Path

PLUGIN = '''
"""Acme's storage."""

import msgspec

from pvc_core import ApiBody, ApiQuery, ApiResource, CliCommand, PvcError, StorageBackendEntry, api_method, hookimpl


class Pool(msgspec.Struct):
    name: str
    size_gib: int


class Pools(msgspec.Struct):
    pools: tuple[Pool, ...]


class NewPool(ApiBody, frozen=True):
    name: str
    size_gib: int = 1


class PoolQuery(ApiQuery, frozen=True):
    at_least_gib: int = 0


class PoolCollection:
    def __init__(self, site):
        self.site = site
        self.pools = [Pool("fast", 10), Pool("slow", 99)]

    @api_method("viewer", Pools, query=PoolQuery)
    def on_get(self, req, resp):
        """List the pools."""
        wanted = req.context.query.at_least_gib
        resp.media = Pools(tuple(pool for pool in self.pools if pool.size_gib >= wanted))

    @api_method("operator", Pool, status=201, body=NewPool, problems=(409,))
    def on_post(self, req, resp):
        """Make a pool."""
        pool = Pool(req.context.json.name, req.context.json.size_gib)
        self.pools.append(pool)
        resp.status = 201
        resp.media = pool


class Trouble:
    def __init__(self, site):
        self.site = site

    def on_get(self, req, resp, what):
        if what == "exit":
            raise SystemExit(3)
        if what == "raise":
            raise RuntimeError("a secret path")
        if what == "refuse":
            from pvc_core.errors import Refused
            raise Refused("acme", "not today")
        resp.media = {"nodes": sorted(self.site.snapshot().nodes)}

    @api_method("viewer", Pools)
    def on_post(self, req, resp, what):
        """Answer nonsense."""
        resp.media = {"pools": [{"name": 7}]}


def broken(site):
    raise RuntimeError("no such device")


@hookimpl
def pvc_storage_backends():
    from pvc_core.testing.memory_storage import MemoryStorage
    storage = MemoryStorage({"fast": 10 * 2**30, "slow": 99 * 2**30})
    return [StorageBackendEntry("acme", "volumes in Acme's memory", storage.open)]


@hookimpl
def pvc_api_resources():
    return [
        ApiResource("/storage/acme", PoolCollection, "Acme's pools"),
        ApiResource("/storage/acme/trouble/{what}", Trouble, "Whatever goes wrong"),
        ApiResource("/storage/acme-broken", broken, "Never built"),
        ApiResource("/vm/acme", Trouble, "Would hide a VM of that name"),
    ]


@hookimpl
def pvc_cli_commands():
    return [
        CliCommand(("storage", "acme", "pools"), "acme_storage_commands:pools", "List Acme's pools."),
        CliCommand(("storage", "acme", "explode"), "acme_storage_commands:explode", "Raise."),
        CliCommand(("storage", "acme", "missing"), "acme_storage_commands:nothing", "Not there."),
        CliCommand(("vm", "acme-report"), "acme_storage_commands:report", "Below a group of PVC's own."),
        CliCommand(("vm", "list"), "acme_storage_commands:report", "Has that name already."),
        CliCommand(("version", "acme"), "acme_storage_commands:report", "Below what is no group."),
    ]
'''

COMMANDS = '''
import click


@click.command()
@click.option("--at-least", type=int, default=0, help="Only pools of this size, in GiB.")
@click.pass_obj
def pools(session, at_least):
    """List Acme's pools, the smallest first."""
    parameters = {"at_least_gib": str(at_least)}
    document = session.api.request("GET", "storage", "acme", parameters=parameters).document
    session.show(document, lambda: "\\n".join(pool["name"] for pool in document["pools"]))


@click.command()
def explode():
    raise RuntimeError("boom")


@click.command()
def report():
    click.echo("reported")
'''


def install(folder: Path) -> Path:
    """The distribution `acme-storage` 1.2 with the plugin `acme`, in a folder for PYTHONPATH."""
    write_modules(folder)
    info = folder / "acme_storage-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-storage\nVersion: 1.2\nSummary: Acme's storage\n")
    (info / "entry_points.txt").write_text(textwrap.dedent("[pvc]\nacme = acme_storage\n"))
    return folder


def write_modules(folder: Path) -> None:
    """Its modules alone, for a distribution of another name."""
    (folder / "acme_storage.py").write_text(PLUGIN.lstrip())
    (folder / "acme_storage_commands.py").write_text(COMMANDS.lstrip())
