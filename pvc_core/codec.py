# SPDX-License-Identifier: Apache-2.0
"""codec: records to bytes and back, losing nothing: unknown fields survive, broken records are a value.

A newer PVC may have written fields this one does not know; rewriting the record must not drop them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from pvc_core.errors import BrokenRecord
from pvc_core.ports import Entry

T = TypeVar("T", bound=msgspec.Struct)

_DECODERS: dict[type[msgspec.Struct], msgspec.json.Decoder[msgspec.Struct]] = {}
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A record as it stands in the store: its value, the version to write against, and the bytes it came from."""

    key: str
    value: T
    version: int
    data: bytes = b""


def decode(entry: Entry, kind: type[T]) -> Stored[T]:
    """Parse an entry. Raises `BrokenRecord` when it is not a valid `kind`."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind)
    try:
        value = decoder.decode(entry.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenRecord(entry.key, str(error)) from error
    assert isinstance(value, kind)
    return Stored(entry.key, value, entry.version, entry.data)


def encode(value: msgspec.Struct, previous: bytes = b"") -> bytes:
    """Serialise a record; fields of `previous` that its types do not know are carried over, at every depth.

    Of structs in a list they go with the one that is the same but for them.
    """
    if not previous:
        return _ENCODER.encode(value)
    unknown = _unknown_fields(value, msgspec.json.decode(previous))
    return _ENCODER.encode(_merged(unknown, msgspec.to_builtins(value)) if unknown else value)


def _unknown_fields(value: object, old: object) -> dict[Any, Any]:
    """What `old` has beyond the fields of this struct and of those inside it; of a list by index."""
    if isinstance(value, tuple | list) and isinstance(old, list):
        return _unknown_in_list(value, old)
    if not isinstance(value, msgspec.Struct) or not isinstance(old, dict):
        return {}
    known = {name: getattr(value, name) for name in value.__struct_fields__}
    unknown = {name: item for name, item in old.items() if name not in known}
    inside = {name: _unknown_fields(item, old.get(name)) for name, item in known.items()}
    return {**unknown, **{name: found for name, found in inside.items() if found}}


def _unknown_in_list(values: Sequence[object], olds: list[Any]) -> dict[int, Any]:
    structs = {index: item for index, item in enumerate(values) if isinstance(item, msgspec.Struct)}
    if not structs:
        return {}
    fields = frozenset(next(iter(structs.values())).__struct_fields__)
    newer = [old for old in olds if isinstance(old, dict) and not old.keys() <= fields]
    found = {}
    for index, item in structs.items() if newer else ():
        plain = msgspec.to_builtins(item)
        same = next((old for old in newer if all(old[name] == plain[name] for name in old.keys() & fields)), None)
        if same is not None:
            newer.remove(same)
            found[index] = {name: part for name, part in same.items() if name not in fields}
    return found


def _merged(unknown: dict[Any, Any], known: Any) -> Any:
    if not isinstance(known, dict):
        return [_merged(unknown[index], item) if index in unknown else item for index, item in enumerate(known)]
    nested = {name: _merged(item, known[name]) for name, item in unknown.items() if name in known}
    return {**unknown, **known, **nested}
