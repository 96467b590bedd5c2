# SPDX-License-Identifier: Apache-2.0
"""metadata: what an administrator says of a VM, normalised and checked against what the cluster knows.

People write lists as "hv2, hv3" and mean two nodes; a name nobody knows is refused with the names that exist,
before anything is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import get_args

import msgspec

from pvc_core.errors import InvalidInput
from pvc_core.limits import check_limit
from pvc_core.model import HeldUntil, MigrationMethod, OnPoweroff, VmMetadata
from pvc_core.selector_expression import check_selector

LIST_FIELDS = ("node_limit", "tags")
FIELDS = VmMetadata.__struct_fields__
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "migration_method": get_args(MigrationMethod),
    "on_poweroff": get_args(OnPoweroff),
    "held_until": get_args(HeldUntil),
}


def split_names(value: object, field: str) -> tuple[str, ...]:
    """Names from a string or a list of strings, split at commas and white space, in order, each once."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise InvalidInput(field, "must be a list of names or a comma-separated string", str(value))
    names: dict[str, None] = {}
    for part in value:
        if not isinstance(part, str):
            raise InvalidInput(field, "must hold names", str(part))
        found = part.replace(",", " ").split()
        if "," in part and not found:
            raise InvalidInput(field, "has commas but no name", part)
        names.update(dict.fromkeys(found))
    return tuple(names)


def apply_patch(metadata: VmMetadata, patch: Mapping[str, object]) -> VmMetadata:
    """The metadata with some fields replaced. Raises `InvalidInput` naming the field and what is allowed."""
    unknown = [name for name in patch if name not in FIELDS]
    if unknown:
        raise InvalidInput(unknown[0], "is not a field of a VM's metadata", allowed=FIELDS)
    normal = {name: split_names(value, name) if name in LIST_FIELDS else value for name, value in patch.items()}
    for name, value in normal.items():
        _check_one(name, value)
    changed = msgspec.structs.replace(metadata, **normal)
    return msgspec.convert(msgspec.to_builtins(changed), VmMetadata)


def _check_one(name: str, value: object) -> None:
    """Type and range of one field, so that the error can name it."""
    try:
        msgspec.convert({name: value}, VmMetadata)
    except msgspec.ValidationError as error:
        raise InvalidInput(name, str(error).split(" - at ")[0].lower(), str(value), _allowed_values(name)) from error


def _allowed_values(name: str) -> tuple[str, ...]:
    return _CHOICES.get(name, ())


def check_metadata(
    metadata: VmMetadata,
    limit_words: Collection[str],
    selectors: Iterable[str],
    recovery_policies: Iterable[str],
    fields: Collection[str] = FIELDS,
) -> VmMetadata:
    """Every name in the metadata is one the cluster knows; "none" means the cluster's default selector.

    limit_words: what a limit may name, see `pvc_core.limits`.
    fields: those that were given. The others may name a node or plugin that has left the cluster since.
    """
    metadata = apply_patch(metadata, {"node_limit": metadata.node_limit, "tags": metadata.tags})
    if metadata.node_selector == "none":
        metadata = msgspec.structs.replace(metadata, node_selector="")
    if not metadata.recovery_policy:
        metadata = msgspec.structs.replace(metadata, recovery_policy=VmMetadata().recovery_policy)
    if "node_limit" in fields:
        check_limit(metadata.node_limit, limit_words)
    if "node_selector" in fields and metadata.node_selector:
        selector = check_selector(metadata.node_selector, selectors)
        metadata = msgspec.structs.replace(metadata, node_selector=selector)
    if "recovery_policy" in fields:
        _check_name("recovery_policy", metadata.recovery_policy, recovery_policies)
    return metadata


def _check_name(field: str, name: str, known: Iterable[str]) -> None:
    names = sorted(known)
    if name and name not in names:
        raise InvalidInput(field, "is not registered by any plugin", name, names)
