# SPDX-License-Identifier: Apache-2.0
"""storage_commands: the commands below `pvc storage <backend>` that are the same for every storage backend.

    @hookimpl
    def pvc_cli_commands():
        return volume_commands("acme")

They speak to the resources of `pvc_core.storage_resources`. A plugin of another distribution needs no more; one that
ships with PVC has its place in the entry points `pvc.commands`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core.contributions import CliCommand
from pvc_core.storage import StorageCapability

_VOLUMES = "pvc_cli.storage_volumes"
_CONTENTS = "pvc_cli.storage_contents"
_ON_NODES = "pvc_cli.storage_on_nodes"
_SNAPSHOTS = "pvc_cli.storage_snapshots"
_COMMANDS: tuple[tuple[str, str, str, StorageCapability | None], ...] = (
    ("pool list", f"{_VOLUMES}:pool_list", "List the pools, and how full they are.", None),
    ("repair", "pvc_cli.storage_repair:repair", "End what calls that died have left half done.", None),
    ("volume list", f"{_VOLUMES}:volume_list", "List the volumes of a pool.", None),
    ("volume add", f"{_VOLUMES}:volume_add", "Make a volume.", None),
    ("volume resize", f"{_VOLUMES}:volume_resize", "Make a volume larger.", StorageCapability.RESIZE),
    ("volume rename", f"{_VOLUMES}:volume_rename", "Give a volume another name.", None),
    ("volume clone", f"{_VOLUMES}:volume_clone", "Make a copy of a volume.", StorageCapability.CLONE),
    ("volume upload", f"{_CONTENTS}:upload", "Fill a volume with a file.", StorageCapability.CONTENTS),
    ("volume download", f"{_CONTENTS}:download", "Write a volume to a file.", StorageCapability.CONTENTS),
    ("volume remove", f"{_VOLUMES}:volume_remove", "Remove a volume and what it holds.", None),
    ("volume snapshot list", f"{_SNAPSHOTS}:list_", "List the snapshots of a volume.", StorageCapability.SNAPSHOTS),
    ("volume snapshot add", f"{_SNAPSHOTS}:add", "Remember what a volume holds now.", StorageCapability.SNAPSHOTS),
    ("volume snapshot rename", f"{_SNAPSHOTS}:rename", "Give a snapshot another name.", StorageCapability.SNAPSHOTS),
    (
        "volume snapshot protect",
        f"{_SNAPSHOTS}:protect",
        "Keep a snapshot from being removed, or no longer.",
        StorageCapability.SNAPSHOTS,
    ),
    (
        "volume snapshot rollback",
        f"{_SNAPSHOTS}:rollback",
        "Make a volume hold what it held then.",
        StorageCapability.SNAPSHOTS,
    ),
    ("volume snapshot remove", f"{_SNAPSHOTS}:remove", "Forget a snapshot.", StorageCapability.SNAPSHOTS),
)


def volume_commands(
    backend: str,
    capabilities: Sequence[StorageCapability] = tuple(StorageCapability),
    *,
    lists_pools: bool = True,
    mends: bool = False,
    on_nodes: bool = False,
) -> tuple[CliCommand, ...]:
    """The commands of a backend. capabilities: which it can have; what needs another one is left out.

    lists_pools: False for a backend that has a `pool list` of its own. mends: True for a `MendsLeftovers`. on_nodes: it
    has the resources and tasks of `pvc_core.storage_on_nodes`, for pools that each node has for itself.
    """
    verbs = ("volume_list", "volume_add", "volume_remove") if on_nodes else ()
    own = {f"{_VOLUMES}:{verb}": f"{_ON_NODES}:{verb}" for verb in verbs}
    return tuple(
        CliCommand(("storage", backend, *words.split()), own.get(load, load), summary)
        for words, load, summary, needed in _COMMANDS
        if (needed is None or needed in capabilities)
        and (lists_pools or words != "pool list")
        and (mends or words != "repair")
    )
