# SPDX-License-Identifier: Apache-2.0
"""contents: whole images are filled and read as streams, piece by piece; what is zero takes no room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from pvc_core.errors import Refused
from pvc_core.storage import Volume
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.pools import CephPools
from pvc_storage_backends.ceph.users import check_unused, known_nodes

PIECE_BYTES = 4 * 2**20
"""What is moved at once: an object of an image as they usually are."""


class CephContents(CephPools):
    """`MovesContents`."""

    def upload_volume(self, pool: str, name: str, source: BinaryIO, report: Callable[[int], None]) -> Volume:
        """See `MovesContents`. A volume that somebody has open is refused; nobody else can write to it meanwhile."""
        with self.alone(pool, name), self.connection.using() as rados:
            with self.image(pool, name, whole=True) as image:
                check_unused(name, image, known_nodes(rados))
            with self.image(pool, name, writing=True) as image:
                image.lock_acquire(bindings.load().rbd.RBD_LOCK_MODE_EXCLUSIVE)
                size_bytes, written_bytes = image.size(), 0
                for piece in _pieces(source):
                    if written_bytes + len(piece) > size_bytes:
                        raise Refused(f"volume {name}", f"holds {size_bytes} bytes, and more are uploaded")
                    if any(piece):
                        image.write(piece, written_bytes)
                    else:
                        image.write_zeroes(written_bytes, len(piece))
                    written_bytes += len(piece)
                    report(written_bytes)
                image.flush()
        return Volume(pool, name, size_bytes)

    def download_volume(self, pool: str, name: str, target: BinaryIO, report: Callable[[int], None]) -> None:
        """See `MovesContents`."""
        with self.image(pool, name, whole=True) as image:
            size_bytes = image.size()
            for begin in range(0, size_bytes, PIECE_BYTES):
                piece = image.read(begin, min(PIECE_BYTES, size_bytes - begin))
                target.write(piece)
                report(begin + len(piece))


def _pieces(source: BinaryIO) -> Iterator[bytes]:
    """All that the source gives, in pieces of one size but for the last."""
    while True:
        piece = bytearray()
        while len(piece) < PIECE_BYTES and (given := source.read(PIECE_BYTES - len(piece))):
            piece += given
        if piece:
            yield bytes(piece)
        if len(piece) < PIECE_BYTES:
            return
