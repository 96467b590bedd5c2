# SPDX-License-Identifier: Apache-2.0
"""store_keys: what a key, a version and a transaction may be, the same for every store driver.

ZooKeeper sets the tightest limits, so they hold everywhere: what works on one machine with the embedded store
must not fail on the first real cluster. ZooKeeper cuts the connection instead of answering when a request is
over its `jute.maxbuffer` (0xfffff bytes), therefore sizes are reckoned before anything is sent, with room left
for the framing and for what the servers of an ensemble add when they replicate it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pvc_core.errors import InvalidInput, TooLarge
from pvc_core.ports import Check, Create, Delete, Op, Set

ROOT = "/"
LIMIT_BYTES = 1_000_000
OP_OVERHEAD_BYTES = 128
"""Reckoned per operation on top of key and value: framing, ACL, chroot."""

# What ZooKeeper's PathUtils refuses. It looks at UTF-16 units, so everything beyond the BMP is refused too.
_FORBIDDEN_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\U0010ffff]")
_KEY_FORM = "an absolute path such as /vms/NAME, without empty parts, '.', '..', control or rare Unicode characters"


def check_key(key: str) -> None:
    """Raise `InvalidInput` unless `key` can name a value in every store."""
    parts = key.split("/")
    well_formed = parts[0] == "" and len(parts) > 1 and all(part not in ("", ".", "..") for part in parts[1:])
    if not well_formed or _FORBIDDEN_CHARACTERS.search(key):
        raise InvalidInput("key", "cannot be a key of the store", key, (_KEY_FORM,))


def check_parent(key: str) -> None:
    """As `check_key`, but the root is allowed: it has children and no value."""
    if key != ROOT:
        check_key(key)


def parent_of(key: str) -> str:
    """The key above; the root for a key of one part."""
    return key.rpartition("/")[0] or ROOT


def child_of(parent: str, name: str) -> str:
    """The key of the child called `name`."""
    return f"/{name}" if parent == ROOT else f"{parent}/{name}"


def with_parents(keys: Iterable[str]) -> list[str]:
    """The keys and all keys above them without the root, each once, parents first."""
    found: dict[str, None] = {}
    for key in keys:
        parts = key.split("/")
        for end in range(2, len(parts) + 1):
            found["/".join(parts[:end])] = None
    return sorted(found, key=lambda key: key.count("/"))


def check_ops(ops: Sequence[Op], op_overhead_bytes: int = OP_OVERHEAD_BYTES) -> None:
    """Raise `InvalidInput` or `TooLarge` for a transaction that must not be sent."""
    total_bytes = 0
    for op in ops:
        check_key(op.key)
        if isinstance(op, Check | Set | Delete) and op.version < 0:  # ZooKeeper takes -1 for "any version"
            raise InvalidInput(f"version of {op.key}", "is negative", str(op.version), ("0 or more",))
        value_bytes = len(op.data) if isinstance(op, Create | Set) else 0
        if value_bytes > LIMIT_BYTES:
            raise TooLarge(f"the value of {op.key}", value_bytes, LIMIT_BYTES)
        total_bytes += value_bytes + len(op.key.encode()) + op_overhead_bytes
    if total_bytes > LIMIT_BYTES:
        subject = f"the value of {ops[0].key}" if len(ops) == 1 else f"a transaction of {len(ops)} operations"
        raise TooLarge(subject, total_bytes, LIMIT_BYTES)
