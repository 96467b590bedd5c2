# SPDX-License-Identifier: Apache-2.0
"""codec: records to bytes and back, losing nothing: unknown fields survive, broken records are a value.

A newer PVC may have written fields this one does not know; rewriting the record must not drop them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

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
    """Serialise a record; top-level fields of `previous` that its type does not know are carried over."""
    if not previous:
        return _ENCODER.encode(value)
    known = set(type(value).__struct_encode_fields__)
    old = msgspec.json.decode(previous)
    unknown = {k: v for k, v in old.items() if k not in known} if isinstance(old, dict) else {}
    if not unknown:
        return _ENCODER.encode(value)
    return _ENCODER.encode({**unknown, **msgspec.to_builtins(value)})
