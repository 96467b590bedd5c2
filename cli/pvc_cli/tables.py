# SPDX-License-Identifier: Apache-2.0
"""tables: rows and columns for a person: as wide as their content, folded only where a terminal is too narrow.

Ten thousand rows are laid out here in the time that rich takes for a few hundred; rich comes in where something has
to be folded, which it does well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import click

MOODS: dict[str, dict[str, object]] = {
    "": {},
    "title": {"bold": True},
    "good": {"fg": "green"},
    "busy": {"fg": "cyan"},
    "warning": {"fg": "yellow"},
    "bad": {"fg": "red", "bold": True},
    "quiet": {"dim": True},
}
"""How a cell is coloured on a terminal."""


FOLDED_COLUMNS = 16
"""A folding column is not made narrower than this."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and what is to be thought of it: one of `MOODS`."""

    text: str
    mood: str = ""


@dataclass
class Table:
    """Columns and rows. `right`: columns of numbers. `folding`: those that may take several lines.

    `usual`: what a folding cell mostly says; where a terminal is far too narrow it is left out.
    """

    columns: Sequence[str]
    right: Sequence[str] = ()
    folding: Sequence[str] = ()
    usual: Sequence[str] = ("-",)
    has_header: bool = True
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def add(self, *cells: str | Cell) -> None:
        """One more row, a cell for every column."""
        self.rows.append(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells))

    def text(self, width: int | None = None, coloured: bool = False) -> str:
        """The table as lines. `width`: of the terminal; None for as wide as it takes."""
        header = [tuple(Cell(name.upper(), "title") for name in self.columns)] if self.has_header else []
        rows = header + self.rows
        widths = [max((_width_of(row[column].text) for row in rows), default=0) for column in range(len(self.columns))]
        for gap in (2, 1):
            if width is None or sum(widths) + gap * (len(widths) - 1) <= width:
                return "\n".join(self._line(row, widths, gap, coloured) for row in rows)
        if not self.folding or width is None:
            return "\n".join(self._line(row, widths, 1, coloured) for row in rows)
        least = [min(w, FOLDED_COLUMNS) if n in self.folding else w for n, w in zip(self.columns, widths, strict=True)]
        if sum(least) + len(least) - 1 <= width:
            return self._folded(rows, width, coloured)
        return self._stacked(header, widths, width, coloured)

    def _line(self, row: Sequence[Cell], widths: Sequence[int], gap: int, coloured: bool) -> str:
        parts = []
        for name, cell, width in zip(self.columns, row, widths, strict=True):
            shown = _coloured(cell) if coloured else cell.text
            padding = " " * (width - _width_of(cell.text))
            parts.append(padding + shown if name in self.right else shown + padding)
        return (" " * gap).join(parts).rstrip()

    def _folded(self, rows: Iterable[Sequence[Cell]], width: int, coloured: bool) -> str:
        """For a terminal that is too narrow for long cells: these take several lines."""
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        drawn = RichTable(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
        for name in self.columns:
            drawn.add_column(
                justify="right" if name in self.right else "left", no_wrap=name not in self.folding, overflow="fold"
            )
        for row in rows:
            drawn.add_row(*(Text.from_ansi(_coloured(cell)) if coloured else Text(cell.text) for cell in row))
        console = Console(width=width, force_terminal=coloured, no_color=not coloured, color_system="standard")
        with console.capture() as capture:
            console.print(drawn)
        return "\n".join(line.rstrip() for line in capture.get().splitlines())

    def _stacked(self, header: list[tuple[Cell, ...]], widths: Sequence[int], width: int, coloured: bool) -> str:
        """For one that is narrower still: what is long and unusual stands below its row."""
        from textwrap import wrap

        kept = [number for number, name in enumerate(self.columns) if name not in self.folding]
        narrow = Table([self.columns[number] for number in kept], self.right)
        lines = []
        for row in header + self.rows:
            cells = [row[number] for number in kept]
            lines.append(narrow._line(cells, [widths[number] for number in kept], 1, coloured))
            for name, cell in zip(self.columns, row, strict=True):
                if name in self.folding and cell.text not in (*self.usual, name.upper()):
                    lines += wrap(cell.text, width, initial_indent=f"    {name} ", subsequent_indent="      ")
        return "\n".join(lines)


def facts_table(facts: Mapping[str, str | Cell]) -> Table:
    """Labels and what they say, a fact a line."""
    table = Table(("label", "fact"), folding=("fact",), has_header=False)
    for label, fact in facts.items():
        table.add(Cell(label, "title"), fact)
    return table


def _coloured(cell: Cell) -> str:
    return click.style(cell.text, **MOODS[cell.mood]) if cell.mood else cell.text  # type: ignore[arg-type]


def _width_of(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
