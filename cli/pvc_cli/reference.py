# SPDX-License-Identifier: Apache-2.0
"""reference: the part of docs/cli.md that lists every command, made from the commands themselves.

    python -m pvc_cli.reference docs/cli.md

replaces what stands between the two markers; a test fails when the page is older than the commands.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from pvc_cli.contributed import LoadedWhenRun
from pvc_cli.exit_codes import EXIT_CODES
from pvc_cli.main import cli
from pvc_core.errors import PluginError

BEGIN = "<!-- made by `python -m pvc_cli.reference docs/cli.md`: do not edit below -->"
END = "<!-- do not edit above -->"

Named = tuple[str, click.Command, click.Context]
"""A command with its full name and the context in which it describes itself."""


def commands() -> Iterator[Named]:
    """Every command with its full name and its context, groups included, in the order of the help."""
    yield from _below("pvc", cli, None)


def reference() -> str:
    """The generated part of the page: exit statuses, then a section per command."""
    lines = ["## Exit status", "", "| status | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    lines += ["", "## Commands", ""]
    for name, command, context in commands():
        lines += [f"### {name}", "", *_section(name, command, context)]
    return "\n".join(lines).rstrip() + "\n"


def with_reference(page: str) -> str:
    """The page with its generated part brought up to date."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the lines\n{BEGIN}\n{END}")
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"


def _below(name: str, command: click.Command, parent: click.Context | None) -> Iterator[Named]:
    context = click.Context(command, parent, info_name=name.rpartition(" ")[2], **command.context_settings)
    yield name, command, context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if isinstance(found, LoadedWhenRun):
                found = _real(found)
            if found is not None:
                yield from _below(f"{name} {below}", found, context)


def _real(command: LoadedWhenRun) -> click.Command:
    """What the plugin's entry leads to; where that cannot be loaded, the page shows what the entry says of it."""
    try:
        return command.real()
    except PluginError as error:
        click.echo(error.sentence(), err=True)
        return command


def _section(name: str, command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    yield from ("```", usage, "```", "", *_paragraphs(command.help or ""), "")
    records = [option.get_help_record(context) for option in command.params if isinstance(option, click.Option)]
    options = [record for record in records if record is not None]
    if options:
        yield from ("| option | meaning |", "|---|---|")
        yield from (f"| `{_cell(option)}` | {_cell(meaning)} |" for option, meaning in options)
        yield ""


def _paragraphs(text: str) -> Iterator[str]:
    """The help as it is written, a paragraph a line."""
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if number:
            yield ""
        yield " ".join(paragraph.split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Bring the page that is named up to date."""
    if len(arguments) != 1:
        click.echo("usage: python -m pvc_cli.reference docs/cli.md", err=True)
        return 2
    path = Path(arguments[0])
    path.write_text(with_reference(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
