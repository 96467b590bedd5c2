# SPDX-License-Identifier: Apache-2.0
"""output: one answer in the form that was asked for: a table for a person, JSON or YAML for a script, or bare names.

JSON and YAML are the API's document, unchanged. Tables are folded to a terminal's width; without a terminal they are
as wide as their content, so that no name is ever cut in a pipe. Nothing is coloured but a terminal.
"""

from __future__ import annotations

import enum
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import TextIO

import click

from pvc_cli.tables import Table

Shown = str | Table | list[str | Table]
"""What a person gets to see: lines and tables, one below the other."""


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


def warn(warnings: Iterable[str]) -> None:
    """What a command accepted and what may not work as meant, a line each on stderr."""
    for warning in warnings:
        note(f"warning: {warning}")


def emit(
    output: Output, document: object, people: Callable[[], Shown], names: Callable[[], Iterable[str]] | None = None
) -> None:
    """Print an answer. `people` makes the table or text, `names` the bare names; each is called only when needed."""
    if output is Output.JSON:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif output is Output.YAML:
        import yaml

        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # in C where PyYAML has it: ten times as fast
        click.echo(yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True), nl=False)
    elif output is Output.NAMES and names is not None:
        for name in names():
            click.echo(name)
    else:
        show(people())


def emit_one(output: Output, document: object, name: str) -> None:
    """Print one of many documents that come one by one: JSON on a line of its own, YAML as a document of its own."""
    if output is Output.JSON:
        click.echo(json.dumps(document, ensure_ascii=False))
    elif output is Output.YAML:
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, explicit_start=True), nl=False)
    else:
        click.echo(name)


def show(shown: Shown) -> None:
    """Lines and tables on stdout."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    coloured = is_coloured(sys.stdout)
    for part in shown if isinstance(shown, list) else [shown]:
        click.echo(part.text(width, coloured) if isinstance(part, Table) else part, color=coloured)
