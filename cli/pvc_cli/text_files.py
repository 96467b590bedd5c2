# SPDX-License-Identifier: Apache-2.0
"""text_files: a text that a command is given in a file or, for `-`, on stdin; no more of it than makes sense."""

from __future__ import annotations

import sys
from pathlib import Path

from pvc_core.errors import InvalidInput, TooLarge


def read_text(file: str, what: str, limit_bytes: int) -> str:
    """The text of a file, or of stdin for `-`. `what` names it in errors. Raises `InvalidInput` or `TooLarge`."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(limit_bytes + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(limit_bytes + 1)
    except OSError as error:
        raise InvalidInput("file", f"cannot be read: {error.strerror}", file) from error
    if len(data) > limit_bytes:
        size_bytes = len(data) if file == "-" else Path(file).stat().st_size
        raise TooLarge(f"{what} in {file}", size_bytes, limit_bytes)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput("file", f"is not UTF-8 text: {error.reason} at byte {error.start}", file) from error
