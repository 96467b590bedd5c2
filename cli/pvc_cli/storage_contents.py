# SPDX-License-Identifier: Apache-2.0
"""storage_contents: `pvc storage <backend> volume upload` and `download`: what a volume holds, to and from a file.

Both are bytes as the guest has them. A file in a format of its own is refused before any of it becomes a disk that no
guest could read; and no file is half there under its name.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import click

from pvc_cli.output import emit, note
from pvc_cli.problems import ApiUnreachable
from pvc_cli.progress import Progress
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.storage_volumes import COPY_S, Size, pool_argument, pool_path, told, volume_argument
from pvc_core.errors import InvalidInput, PvcError
from pvc_core.sizes import size_words

PIECE_BYTES = 2**20
BLOCK_BYTES = 64 * 1024
"""So many zeros are left out of a file that is written, which reads the same."""
_ZEROS = bytes(BLOCK_BYTES)
SHOW_EVERY_S = 0.2
SILENCE_S = 330.0
"""How long nothing may come of a download; the API gives its backend up sooner."""
FORMATS = {b"QFI\xfb": "qcow2", b"KDMV": "vmdk", b"vhdxfile": "vhdx", b"QED\0": "qed"}
"""How files begin that are images in a format of their own."""


@click.command("upload")
@pool_argument
@volume_argument
@click.argument("file")
@click.option("--create", is_flag=True, help="Make the volume first.")
@click.option("--size", "size_bytes", type=Size(), help="With --create: its size.  [default: that of FILE]")
@click.option("--as-it-is", is_flag=True, help="Also a FILE that looks like an image in a format of its own.")
@output_option
@pass_session
def upload(
    session: Session, pool: str, volume: str, file: str, create: bool, size_bytes: int | None, as_it_is: bool
) -> None:
    """Fill VOLUME of POOL with FILE, or with what comes on stdin for `-`.

    The bytes are what the guest will read: a raw image. What is behind them in a larger volume stays. An upload that
    breaks off leaves a volume that has to be filled again; one that --create has made is removed again.
    """
    if size_bytes is not None and not create:
        raise InvalidInput("size", "is that of a volume that --create makes")
    with _opened(file) as source:
        length_bytes = _length_of(source)
        head = source.read(PIECE_BYTES)
        if not as_it_is:
            _refuse_formats(head, file)
        if create:
            _create(session, pool, volume, size_bytes or length_bytes)
        patient = replace(session.api, patience_s=COPY_S)
        try:
            with Progress() as progress:
                counted = _counted(chain([head], _pieces(source, file)), f"uploading {volume}", length_bytes, progress)
                answer = patient.send(*pool_path(pool), volume, "contents", pieces=counted, length_bytes=length_bytes)
        except BaseException:
            if create:
                _take_back(session, pool, volume)
            raise
    told(session, answer.document, volume)


@click.command("download")
@pool_argument
@volume_argument
@click.argument("file")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@output_option
@pass_session
def download(session: Session, pool: str, volume: str, file: str, force: bool) -> None:
    """Write what VOLUME of POOL holds to FILE, or to stdout for `-`, as a raw image.

    FILE appears when all of it has come; until then it is FILE.part. Of a running VM the disk goes on changing
    meanwhile: download a clone.
    """
    with ExitStack() as stack:
        target = sys.stdout.buffer if file == "-" else stack.enter_context(_written(Path(file), force))
        patient = replace(session.api, patience_s=SILENCE_S)
        size_bytes, pieces = stack.enter_context(patient.fetch(*pool_path(pool), volume, "contents"))
        write = target.write if file == "-" else _sparsely(target)
        with Progress() as progress:
            came_bytes = 0
            for piece in _counted(pieces, f"downloading {volume}", size_bytes, progress):
                write(piece)
                came_bytes += len(piece)
        if came_bytes != size_bytes:
            raise ApiUnreachable(session.api.where, f"the stream broke off after {came_bytes} of {size_bytes} bytes")
        if file == "-":
            target.flush()
            return
        target.truncate(size_bytes)
    reason = f"{file} holds the {size_words(size_bytes)} of volume {volume} of pool {pool}"
    document = {"reason": reason, "file": file, "size_bytes": size_bytes}
    emit(session.output, document, lambda: reason, lambda: [file])


def _opened(file: str) -> BinaryIO:
    """Raises `InvalidInput`."""
    if file == "-":
        return sys.stdin.buffer
    try:
        return open(file, "rb")
    except OSError as error:
        raise InvalidInput("file", f"cannot be read: {error.strerror}", file) from error


def _pieces(source: BinaryIO, file: str) -> Iterator[bytes]:
    """The rest of it. Raises `InvalidInput`."""
    try:
        yield from iter(lambda: source.read(PIECE_BYTES), b"")
    except OSError as error:
        raise InvalidInput("file", f"cannot be read: {error.strerror}", file) from error


def _length_of(source: BinaryIO) -> int | None:
    """None of what is no file, such as a pipe, or has been read in part."""
    try:
        found = os.fstat(source.fileno())
        return found.st_size if stat.S_ISREG(found.st_mode) and source.tell() == 0 else None
    except OSError:
        return None


def _refuse_formats(head: bytes, file: str) -> None:
    for magic, kind in FORMATS.items():
        if head.startswith(magic):
            hint = f"make a raw image of it first: qemu-img convert -f {kind} -O raw {file} {Path(file).stem}.raw"
            raise InvalidInput("file", f"is an image of format {kind}, which a guest would read as it is; {hint}", file)


def _create(session: Session, pool: str, volume: str, size_bytes: int | None) -> None:
    if not size_bytes:
        raise InvalidInput("size", "is needed with --create, as FILE does not say how large it will be")
    session.api.post(*pool_path(pool), body={"name": volume, "size_bytes": size_bytes})


def _take_back(session: Session, pool: str, volume: str) -> None:
    try:
        session.api.request("DELETE", *pool_path(pool), volume)
    except PvcError as error:
        note(f"volume {volume}, which was made for it, is still in pool {pool}: {error.sentence()}")


def _counted(
    pieces: Iterator[bytes],
    what: str,
    total_bytes: int | None,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[bytes]:
    """The same pieces; how many there have been is shown now and then."""
    done_bytes, began_s, shown_s = 0, clock(), 0.0
    for piece in pieces:
        done_bytes += len(piece)
        yield piece
        now_s = clock()
        if now_s - shown_s >= SHOW_EVERY_S:
            shown_s = now_s
            pace = size_words(int(done_bytes / max(now_s - began_s, 0.001)))
            whole = f" of {size_words(total_bytes)}, {100 * done_bytes // total_bytes}%" if total_bytes else ""
            progress.show(f"{what}: {size_words(done_bytes)}{whole}, {pace}/s", what)


@contextmanager
def _written(path: Path, force: bool) -> Iterator[BinaryIO]:
    """A new file that gets its name when all has gone well, and is not there otherwise."""
    if path.exists() and not force:
        raise InvalidInput("file", "is there already; say --force to replace it", str(path))
    part = path.with_name(f"{path.name}.part")
    try:
        made = part.open("wb" if force else "xb")
    except FileExistsError as error:
        raise InvalidInput("file", "is being written by another download, or was; say --force", str(part)) from error
    except OSError as error:
        raise InvalidInput("file", f"cannot be written: {error.strerror}", str(part)) from error
    try:
        with made:
            try:
                yield made
            except OSError as error:
                raise InvalidInput("file", f"cannot be written: {error.strerror}", str(part)) from error
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _sparsely(target: BinaryIO) -> Callable[[bytes], object]:
    """Writes a piece, but skips blocks of zeros in it."""

    def write(piece: bytes) -> None:
        for begin in range(0, len(piece), BLOCK_BYTES):
            block = piece[begin : begin + BLOCK_BYTES]
            if block == _ZEROS:
                target.seek(len(block), os.SEEK_CUR)
            else:
                target.write(block)

    return write
