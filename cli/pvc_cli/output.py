# SPDX-License-Identifier: Apache-2.0
"""output: one answer in the form that was asked for: a table for a person, JSON or YAML for a script, or bare names.

JSON and YAML are the API's document, unchanged. Tables are drawn for the terminal's width when there is a terminal;
otherwise as wide as their content, so that no name is ever cut in a pipe. Nothing is coloured but a terminal.
"""

from __future__ import annotations

import enum
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


ROOMY_COLUMNS = 100
"""From this width on, a terminal has room for wide gaps between columns."""


class Output(enum.StrEnum):
    """The forms of an answer."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAMES = "names"


def is_coloured(stream: TextIO) -> bool:
    """Whether colours are wanted on this stream: it is a terminal and NO_COLOR is not set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """One line for a person on stdout."""
    click.echo(text)


def note(text: str) -> None:
    """One line beside the answer, on stderr, so that stdout stays what a script reads."""
    click.echo(text, err=True)


def emit(
    output: Output,
    document: object,
    people: Callable[[], RenderableType | str],
    names: Callable[[], Iterable[str]] | None = None,
) -> None:
    """Print an answer. `people` makes the table or text, `names` the bare names; each is called only when needed."""
    if output is Output.JSON:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif output is Output.YAML:
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
    elif output is Output.NAMES and names is not None:
        for name in names():
            click.echo(name)
    else:
        shown = people()
        if isinstance(shown, str):
            click.echo(shown)
        else:
            show(shown)


def show(renderable: RenderableType) -> None:
    """Draw with rich on stdout: in the terminal's width, or in the content's own when there is no terminal."""
    from rich.console import Console

    stream = sys.stdout
    coloured = is_coloured(stream)
    console = Console(
        file=stream,
        force_terminal=coloured,
        no_color=not coloured,
        width=None if stream.isatty() else _width_of(renderable),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )
    with console.capture() as capture:
        console.print(renderable)
    # rich pads every row to the table's width; what a pipe reads should end where it ends.
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()), color=coloured)


def table(*columns: str, right: Sequence[str] = (), folding: Sequence[str] = ()) -> Table:
    """An empty table without lines. `right` names columns of numbers, `folding` those that may take several lines."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, padding=(0, _gap(), 0, 0), header_style="bold")
    for column in columns:
        drawn.add_column(
            column.upper(),
            justify="right" if column in right else "left",
            no_wrap=column not in folding,
            overflow="fold",
        )
    return drawn


def _gap() -> int:
    """Spaces between two columns: one where space is scarce."""
    return 1 if sys.stdout.isatty() and shutil.get_terminal_size().columns < ROOMY_COLUMNS else 2


def facts_table(facts: Mapping[str, RenderableType]) -> Table:
    """Labels and what they say, a fact a line."""
    from rich.table import Table

    drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    drawn.add_column(no_wrap=True, style="bold")
    drawn.add_column(overflow="fold")
    for label, value in facts.items():
        drawn.add_row(label, value)
    return drawn


def _width_of(renderable: RenderableType) -> int:
    """How wide it must be drawn so that nothing is folded."""
    from rich.console import Console
    from rich.measure import Measurement

    wide = Console(width=10_000)
    return max(80, Measurement.get(wide, wide.options, renderable).maximum)
