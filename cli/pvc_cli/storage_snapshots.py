# SPDX-License-Identifier: Apache-2.0
"""storage_snapshots: `pvc storage <backend> volume snapshot`, which is the same for every storage backend."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

import click

from pvc_cli.definition_files import confirmed
from pvc_cli.output import emit
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.storage_volumes import (
    COPY_S,
    new_name_argument,
    pool_argument,
    pool_path,
    told,
    volume_argument,
    yes_option,
)
from pvc_cli.tables import Table
from pvc_cli.words import NOTHING
from pvc_core.sizes import size_words


class SnapshotView(TypedDict):
    """A snapshot of a volume."""

    name: str
    size_bytes: int
    protected: bool


snapshot_argument = click.argument("snapshot")


@click.command("list")
@pool_argument
@volume_argument
@output_option
@pass_session
def list_(session: Session, pool: str, volume: str) -> None:
    """List the snapshots of VOLUME of POOL, the oldest first."""
    document = session.api.get(*pool_path(pool), volume, "snapshot")
    snapshots: list[SnapshotView] = document["snapshots"]
    emit(
        session.output,
        document,
        lambda: _snapshots(snapshots) if snapshots else f"volume {volume} has no snapshots",
        lambda: [one["name"] for one in snapshots],
    )


@click.command()
@pool_argument
@volume_argument
@new_name_argument
@output_option
@pass_session
def add(session: Session, pool: str, volume: str, name: str) -> None:
    """Remember as NAME what VOLUME of POOL holds now."""
    told(session, session.api.post(*pool_path(pool), volume, "snapshot", body={"name": name}).document, name)


@click.command()
@pool_argument
@volume_argument
@snapshot_argument
@new_name_argument
@output_option
@pass_session
def rename(session: Session, pool: str, volume: str, snapshot: str, name: str) -> None:
    """Call SNAPSHOT of VOLUME of POOL by NAME."""
    path = (*pool_path(pool), volume, "snapshot", snapshot, "rename")
    told(session, session.api.post(*path, body={"name": name}).document, name)


@click.command()
@pool_argument
@volume_argument
@snapshot_argument
@click.option("--off", is_flag=True, help="Let it be removed again.")
@output_option
@pass_session
def protect(session: Session, pool: str, volume: str, snapshot: str, off: bool) -> None:
    """Keep SNAPSHOT of VOLUME of POOL from being removed."""
    path = (*pool_path(pool), volume, "snapshot", snapshot, "protect")
    told(session, session.api.post(*path, body={"protected": not off}).document, snapshot)


@click.command()
@pool_argument
@volume_argument
@snapshot_argument
@yes_option
@output_option
@pass_session
def rollback(session: Session, pool: str, volume: str, snapshot: str, yes: bool) -> None:
    """Make VOLUME of POOL hold what it held at SNAPSHOT; what it holds now is lost."""
    confirmed(f"Take volume {volume} of pool {pool} back to {snapshot}, and lose what it holds now?", yes, "rollback")
    patient = replace(session.api, patience_s=COPY_S)
    path = (*pool_path(pool), volume, "snapshot", snapshot, "rollback")
    told(session, patient.post(*path, body={}).document, volume)


@click.command()
@pool_argument
@volume_argument
@snapshot_argument
@yes_option
@output_option
@pass_session
def remove(session: Session, pool: str, volume: str, snapshot: str, yes: bool) -> None:
    """Forget SNAPSHOT of VOLUME of POOL."""
    confirmed(f"Remove snapshot {snapshot} of volume {volume} of pool {pool}?", yes, "remove")
    patient = replace(session.api, patience_s=COPY_S)
    document = patient.request("DELETE", *pool_path(pool), volume, "snapshot", snapshot).document
    told(session, document, snapshot)


def _snapshots(snapshots: list[SnapshotView]) -> Table:
    table = Table(("name", "size", "protected"), right=("size",))
    for one in snapshots:
        table.add(one["name"], size_words(one["size_bytes"]), "yes" if one["protected"] else NOTHING)
    return table
