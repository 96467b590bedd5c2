# SPDX-License-Identifier: Apache-2.0
"""secret_values: parameters by name from the command line, where no secret ever stands.

A command line is in the shell's history and in the list of processes of everybody on the machine. So a secret is
prompted for, or read from a file or stdin, and refused as a plain value before anything is sent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import click

from pvc_cli.text_files import read_text
from pvc_core.errors import InvalidInput

MAX_VALUE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Given:
    """What stands on the command line: plain values, files that hold values, and what is to be prompted for."""

    plain: Mapping[str, str]
    files: Mapping[str, str]
    prompted: tuple[str, ...] = field(default=())

    def values(self, subject: str) -> dict[str, str]:
        """Every parameter with its value; reads files, then asks at the terminal. `subject`: whose they are."""
        read = {
            name: _one_line(name, read_text(file, f"the value of {name}", MAX_VALUE_BYTES))
            for name, file in self.files.items()
        }
        return {**self.plain, **read, **{name: _prompted(name, subject) for name in self.prompted}}

    def refuse_plain(self, is_secret: Callable[[str], bool]) -> None:
        """Raises `InvalidInput` when a secret stands on the command line; its value is not repeated."""
        for name in self.plain:
            if is_secret(name):
                problem = f"is a secret, and others can read it on a command line; say --secret {name} to be asked"
                raise InvalidInput(name, f"{problem}, or give {name}=@FILE, or {name}=@- for stdin")


def given(parameters: Iterable[str], secrets: Iterable[str]) -> Given:
    """NAME=VALUE, NAME=@FILE, NAME=@- and, in `secrets`, NAME. A value that begins with @ is written with two.

    Raises `InvalidInput`.
    """
    plain: dict[str, str] = {}
    files: dict[str, str] = {}
    prompted: list[str] = []
    for text in parameters:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InvalidInput("param", "must be given as NAME=VALUE, such as ip=10.0.0.11")
        _refuse_again(name, plain, files)
        if value.startswith("@@"):
            plain[name] = value[1:]
        elif value.startswith("@"):
            files[name] = value[1:]
        else:
            plain[name] = value
    for name in secrets:
        if "=" in name:
            raise InvalidInput("secret", "takes a name only, and asks for the value", name.partition("=")[0])
        _refuse_again(name, plain, files, prompted)
        prompted.append(name)
    if list(files.values()).count("-") > 1:
        raise InvalidInput("param", "stdin can be read for one parameter only")
    return Given(plain, files, tuple(prompted))


def _refuse_again(name: str, *before: Iterable[str]) -> None:
    if any(name in names for names in before):
        raise InvalidInput(name, "is given twice")


def _one_line(name: str, text: str) -> str:
    """The text without the end of its line, which editors and `echo` put there."""
    line = text.removesuffix("\n").removesuffix("\r")
    if not line:
        raise InvalidInput(name, "is empty")
    return line


def _prompted(name: str, subject: str) -> str:
    if not sys.stdin.isatty():
        raise InvalidInput(name, f"there is no terminal to ask; give {name}=@FILE, or {name}=@- for stdin")
    value: str = click.prompt(f"{name} of {subject}", hide_input=True, err=True)
    return value
