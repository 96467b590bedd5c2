# SPDX-License-Identifier: Apache-2.0
"""definition_files: libvirt XML on its way between files, an editor, a person who is asked, and the API."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from pvc_cli.output import is_coloured, note
from pvc_cli.problems import Declined
from pvc_cli.text_files import read_text
from pvc_core.errors import InvalidInput, PvcError

MAX_DEFINITION_BYTES = 512 * 1024
"""What the API accepts; more is not read into memory only to be refused."""


def read_definition(file: str) -> str:
    """The text of a file, or of stdin for `-`. Raises `InvalidInput` or `TooLarge`."""
    return read_text(file, "the definition", MAX_DEFINITION_BYTES)


def edited(text: str, name: str) -> str:
    """The text after the person has edited it. Raises `InvalidInput` when there is no editor."""
    try:
        changed = click.edit(text, extension=".xml", require_save=True)
    except click.ClickException as error:
        raise InvalidInput("editor", f"failed, {name} is unchanged: {error.format_message()}") from error
    return text if changed is None else changed


def diff_of(present: str, wanted: str, name: str) -> str:
    """What would change, as a unified diff, coloured on a terminal; "" when nothing would."""
    from difflib import unified_diff

    lines = unified_diff(
        present.splitlines(), wanted.splitlines(), f"{name} (present)", f"{name} (wanted)", lineterm=""
    )
    coloured = is_coloured(sys.stderr)
    return "\n".join(_coloured(line) if coloured else line for line in lines)


def confirmed(question: str, yes: bool, command: str) -> None:
    """Ask, unless --yes was given. Raises `Declined`, or `InvalidInput` when there is nobody to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(command, "changes what cannot be brought back, and there is no terminal to ask; say --yes")
    if not click.confirm(question, err=True):
        raise Declined


@contextmanager
def kept_on_failure(text: str, name: str, keep: bool) -> Iterator[None]:
    """What took somebody an hour in an editor is not lost to a refusal: it is kept in a file, and the file is named."""
    try:
        yield
    except (PvcError, click.Abort):
        if keep:
            import tempfile

            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", prefix=f"pvc-{name}-", suffix=".xml", delete=False
            ) as file:
                file.write(text)
            note(f"what you edited is kept in {file.name}")
        raise


def _coloured(line: str) -> str:
    if line.startswith(("+++", "---")):
        return click.style(line, bold=True)
    if line.startswith("+"):
        return click.style(line, fg="green")
    if line.startswith("-"):
        return click.style(line, fg="red")
    return line
