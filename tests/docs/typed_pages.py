# SPDX-License-Identifier: Apache-2.0
"""typed_pages: a page typed by somebody who takes it at its word: all commands in one shell, their output compared."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pages import blocks

TIMEOUT_S = 300


@dataclass(frozen=True)
class Line:
    """A command as the page shows it, and the lines of output that the page shows below it."""

    command: str
    shown: tuple[str, ...]


def lines_of(page: Path) -> list[Line]:
    """All commands behind `$`, in order; those behind `#`, of root, are not typed."""
    found: list[Line] = []
    for block in blocks(page):
        if block.language != "console":
            continue
        for text in block.text.splitlines():
            if text.startswith("$ "):
                found.append(Line(text[2:], ()))
            elif text.strip() and not text.startswith("# "):
                found[-1] = Line(found[-1].command, (*found[-1].shown, text))
    return found


def typed(lines: list[Line], folder: Path, environment: Mapping[str, str]) -> list[str]:
    """What each command printed. Fails at the first that fails, telling what it said.

    A command that is to fail is followed by `echo $?` on the page, with the exit status as what that prints.
    """
    script = ["was=0"]
    for number, line in enumerate(lines):
        script += [f"echo '@@{number}@@'", "(exit $was)", line.command, "was=$?"]
        if [after.command for after in lines[number + 1 : number + 2]] != ["echo $?"]:
            script.append('[ "$was" = 0 ] || exit "$was"')
    result = subprocess.run(
        ["/bin/sh", "-c", "\n".join(script)],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    outputs = re.split(r"@@\d+@@\n", result.stdout)[1:]
    assert result.returncode == 0, f"{lines[len(outputs) - 1].command}: {outputs[-1] if outputs else result.stdout}"
    return outputs


def assert_shows(line: Line, output: str) -> None:
    """Every line that the page shows was printed, whatever the spaces; `...` stands for anything."""
    printed = [" ".join(text.split()) for text in output.splitlines()]
    for shown in line.shown:
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in shown.split("..."))
        matching = [text for text in printed if re.match(pattern.replace(r".*", "\\ ?.*"), text)]
        assert matching, f"$ {line.command}\ndoes not print: {shown}\nbut: {output}"
