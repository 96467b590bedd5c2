# SPDX-License-Identifier: Apache-2.0
"""contents: what a volume holds, as a stream, in pieces that qemu-img carries between the image and a file.

Only one piece at a time is there beside the image, so that neither memory nor the pool has to hold a volume twice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pvc_core.errors import Refused
from pvc_storage_backends.directory.folders import PoolFolder
from pvc_storage_backends.directory.images import SECTOR_BYTES, Images

PIECE_BYTES = 64 * 2**20
READ_BYTES = 2**20


def fill(
    folder: PoolFolder, image: Path, name: str, source: BinaryIO, images: Images, report: Callable[[int], None]
) -> None:
    """Write a stream into an image from its beginning. Raises `Refused` when it is longer than that."""
    size_bytes = images.describe(image).virtual_size
    written_bytes = 0
    with folder.new() as piece:
        while length_bytes := _read_piece(source, piece, written_bytes, report):
            if written_bytes + length_bytes > size_bytes:
                raise Refused(f"volume {name}", f"holds {size_bytes} bytes, and more are uploaded")
            if over_bytes := length_bytes % SECTOR_BYTES:
                # What is in the rest of its last sector stays.
                at_bytes = written_bytes + length_bytes - over_bytes
                with folder.new() as sector:
                    images.copy_out(image, at_bytes, SECTOR_BYTES, sector)
                    with piece.open("ab") as end:
                        end.write(sector.read_bytes()[over_bytes:])
            images.copy_in(piece, image, written_bytes, piece.stat().st_size)
            written_bytes += length_bytes


def pour(folder: PoolFolder, image: Path, target: BinaryIO, images: Images, report: Callable[[int], None]) -> None:
    """Write all that an image holds to a stream."""
    size_bytes = images.describe(image).virtual_size
    with folder.new() as piece:
        for begin_bytes in range(0, size_bytes, PIECE_BYTES):
            images.copy_out(image, begin_bytes, min(PIECE_BYTES, size_bytes - begin_bytes), piece)
            done_bytes = begin_bytes
            with piece.open("rb") as held:
                while data := held.read(READ_BYTES):
                    target.write(data)
                    done_bytes += len(data)
                    report(done_bytes)


def _read_piece(source: BinaryIO, piece: Path, before_bytes: int, report: Callable[[int], None]) -> int:
    """Read as much as makes a piece, or to the end; how much there was. before_bytes: what has come before it."""
    length_bytes = 0
    with piece.open("wb") as held:
        while length_bytes < PIECE_BYTES and (data := source.read(min(READ_BYTES, PIECE_BYTES - length_bytes))):
            held.write(data)
            length_bytes += len(data)
            report(before_bytes + length_bytes)
    return length_bytes
