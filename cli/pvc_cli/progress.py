# SPDX-License-Identifier: Apache-2.0
"""progress: what goes on while a command waits: one line that is rewritten on a terminal, plain lines elsewhere.

It is written to stderr, so that stdout holds the answer alone. A line in a log is worth having when something
happened, not when a percentage moved: plain lines come when the part without figures in motion has changed.
"""

from __future__ import annotations

import shutil
import sys
from types import TracebackType

import click


class Progress:
    """The progress of one wait; a context that leaves no half-written line behind."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live and self._last:
            click.echo("\r\x1b[K", err=True, nl=False, color=True)

    def show(self, text: str, event: str = "") -> None:
        """Say how it stands. `event` is what makes it news in a log; the text itself when empty."""
        news = text if self._live else event or text
        if news == self._last:
            return
        self._last = news
        if self._live:
            columns = shutil.get_terminal_size().columns
            shown = text if len(text) < columns else f"{text[: columns - 4]}..."
            click.echo(f"\r\x1b[K{shown}", err=True, nl=False, color=True)
        else:
            click.echo(text, err=True)
