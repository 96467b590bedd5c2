# SPDX-License-Identifier: Apache-2.0
"""storage_volumes: `pvc storage <backend> pool` and `volume`, which are the same commands for every storage backend.

Which backend is meant is told by the words that led here: `pvc storage directory volume list`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypedDict

import click

from pvc_cli.contributed import path_of
from pvc_cli.definition_files import confirmed
from pvc_cli.output import emit
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table
from pvc_cli.words import NOTHING
from pvc_core.sizes import parse_size, size_words

COPY_S = 24 * 3600.0
"""How long a command waits for what copies a volume."""


class PoolView(TypedDict):
    """A pool of a storage backend."""

    name: str
    shared: bool
    total_bytes: int | None
    free_bytes: int | None
    problem: str


class VolumeView(TypedDict):
    """A volume of a pool."""

    pool: str
    name: str
    size_bytes: int
    used_bytes: int | None
    vm: str


class VolumeOutcome(TypedDict):
    """What has been done with a volume."""

    reason: str
    volume: VolumeView | None


def backend_path() -> tuple[str, str]:
    """Where the API has what this command is about."""
    return ("storage", path_of(click.get_current_context())[1])


def pool_path(pool: str) -> tuple[str, ...]:
    """Where the API has a pool's volumes."""
    return (*backend_path(), "pool", pool, "volume")


def told(session: Session, document: Any, name: str) -> None:
    """Print what has been done."""
    emit(session.output, document, lambda: str(document["reason"]), lambda: [name])


class Size(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """The size of a volume: 20GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return value if isinstance(value, int) else parse_size(str(value))


pool_argument = click.argument("pool")
volume_argument = click.argument("volume")
size_argument = click.argument("size_bytes", metavar="SIZE", type=Size())
new_name_argument = click.argument("name")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


@click.command("list")
@output_option
@pass_session
def pool_list(session: Session) -> None:
    """List the pools, and how full they are."""
    document = session.api.get(*backend_path(), "pool")
    pools: list[PoolView] = document["pools"]
    emit(
        session.output,
        document,
        lambda: _pools(pools) if pools else "there is no pool",
        lambda: [one["name"] for one in pools],
    )


@click.command("list")
@pool_argument
@output_option
@pass_session
def volume_list(session: Session, pool: str) -> None:
    """List the volumes of POOL, and the VMs that they belong to."""
    list_volumes(session, pool)


def list_volumes(session: Session, pool: str) -> None:
    """List what all nodes have."""
    show_volumes(session, session.api.get(*pool_path(pool)), f"pool {pool}")


def show_volumes(session: Session, document: Any, where: str) -> None:
    """Print a list of volumes. where: of which pool they are, for people."""
    volumes: list[VolumeView] = document["volumes"]
    emit(
        session.output,
        document,
        lambda: _volumes(volumes) if volumes else f"{where} has no volumes",
        lambda: [one["name"] for one in volumes],
    )


@click.command("add")
@pool_argument
@new_name_argument
@size_argument
@output_option
@pass_session
def volume_add(session: Session, pool: str, name: str, size_bytes: int) -> None:
    """Make the volume NAME of SIZE, such as 20GiB, in POOL. It reads as zeros."""
    make_volume(session, pool, name, size_bytes)


def make_volume(session: Session, pool: str, name: str, size_bytes: int) -> None:
    """Make it where all nodes have it, and say so."""
    document: VolumeOutcome = session.api.post(*pool_path(pool), body={"name": name, "size_bytes": size_bytes}).document
    told(session, document, name)


@click.command("resize")
@pool_argument
@volume_argument
@size_argument
@output_option
@pass_session
def volume_resize(session: Session, pool: str, volume: str, size_bytes: int) -> None:
    """Make VOLUME of POOL as large as SIZE, such as 20GiB; no volume is made smaller."""
    document = session.api.post(*pool_path(pool), volume, "resize", body={"size_bytes": size_bytes}).document
    told(session, document, volume)


@click.command("rename")
@pool_argument
@volume_argument
@new_name_argument
@output_option
@pass_session
def volume_rename(session: Session, pool: str, volume: str, name: str) -> None:
    """Call VOLUME of POOL by NAME, with its snapshots."""
    document = session.api.post(*pool_path(pool), volume, "rename", body={"name": name}).document
    told(session, document, name)


@click.command("clone")
@pool_argument
@volume_argument
@new_name_argument
@output_option
@pass_session
def volume_clone(session: Session, pool: str, volume: str, name: str) -> None:
    """Make the volume NAME, which holds what VOLUME of POOL does now."""
    patient = replace(session.api, patience_s=COPY_S)
    document = patient.post(*pool_path(pool), volume, "clone", body={"name": name}).document
    told(session, document, name)


@click.command("remove")
@pool_argument
@volume_argument
@yes_option
@output_option
@pass_session
def volume_remove(session: Session, pool: str, volume: str, yes: bool) -> None:
    """Remove VOLUME of POOL and what it holds."""
    remove_volume(session, pool, volume, yes)


def remove_volume(session: Session, pool: str, volume: str, yes: bool) -> None:
    """Ask, remove it where all nodes had it, and say so."""
    confirmed(f"Remove volume {volume} of pool {pool} and what it holds?", yes, "remove")
    document = session.api.request("DELETE", *pool_path(pool), volume).document
    told(session, document, volume)


def _pools(pools: list[PoolView]) -> Table:
    table = Table(("name", "shared", "size", "free", "problem"), right=("size", "free"), folding=("problem",))
    for one in pools:
        problem = Cell(one["problem"], "bad") if one["problem"] else NOTHING
        shared = "yes" if one["shared"] else "each node has its own"
        table.add(one["name"], shared, _size(one["total_bytes"]), _size(one["free_bytes"]), problem)
    return table


def _volumes(volumes: list[VolumeView]) -> Table:
    table = Table(("name", "size", "used", "vm"), right=("size", "used"))
    for one in volumes:
        table.add(one["name"], size_words(one["size_bytes"]), _size(one["used_bytes"]), one["vm"] or NOTHING)
    return table


def _size(size_bytes: int | None) -> str:
    return NOTHING if size_bytes is None else size_words(size_bytes)
