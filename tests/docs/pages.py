# SPDX-License-Identifier: Apache-2.0
"""pages: what the documentation shows: fenced blocks, the commands in them, commands in running text, and tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
    key=lambda path: str(path.relative_to(ROOT)),
)
SHELL_LANGUAGES = ("console", "sh", "shell", "bash")
OPERATORS = {"|", "||", "&&", ";", ">", ">>", "<", "&"}
_FENCE = re.compile(r"^(?P<fence>`{3,}|~{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block. `file`: the name that a comment before it gives, `<!-- file: NAME -->`."""

    page: Path
    language: str
    text: str
    file: str = ""


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it, without its prompt. `as_root`: behind `#` instead of `$`."""

    page: Path
    text: str
    as_root: bool = False

    def __str__(self) -> str:
        return f"{name_of(self.page)}: {self.text}"

    @property
    def words(self) -> list[str]:
        """The words of the first command of the line; redirections and what follows left out."""
        lexer = shlex.shlex(self.text, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        found: list[str] = []
        for word in lexer:
            if word in OPERATORS:
                break
            found.append(word)
        return found

    @property
    def program(self) -> str:
        """The name of the program, without its folder."""
        return Path(self.words[0]).name if self.words else ""


def name_of(page: Path) -> str:
    """The page as a person writes it."""
    return str(page.relative_to(ROOT))


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """All fenced blocks of a page."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        file = re.fullmatch(r"<!-- file: (\S+) -->", before.strip())
        language = (match["info"].split() or [""])[0]
        found.append(Block(page, language, match["body"], file[1] if file else ""))
    return tuple(found)


def files(page: Path) -> dict[str, str]:
    """The files that a page tells the reader to write, by name."""
    return {block.file: block.text for block in blocks(page) if block.file}


def commands(page: Path) -> Iterator[Shown]:
    """Every command in a block: behind a prompt in `console`, each line in `sh`, those of `pvc` without language."""
    for block in blocks(page):
        text = block.text.replace("\\\n", " ")
        for line in text.splitlines():
            prompt, _, rest = line.partition(" ")
            is_usage = "[OPTIONS]" in line
            if block.language == "console" and prompt in ("$", "#") and rest:
                yield Shown(page, rest.strip(), as_root=prompt == "#")
            elif _is_shell(block, line) or (not block.language and line.startswith("pvc ") and not is_usage):
                yield Shown(page, line.strip())


def _is_shell(block: Block, line: str) -> bool:
    return block.language in SHELL_LANGUAGES[1:] and bool(line.strip()) and not line.lstrip().startswith("#")


def inline_code(page: Path) -> Iterator[str]:
    """Every `code` in the running text."""
    for match in _INLINE.finditer(_FENCE.sub("", page.read_text())):
        yield " ".join(match[1].split())


def table(page: Path, mark: str) -> list[list[str]]:
    """The rows of the table between `<!-- MARK: begin -->` and `<!-- MARK: end -->`, without its head."""
    text = page.read_text()
    inner = text.partition(f"<!-- {mark}: begin -->")[2].partition(f"<!-- {mark}: end -->")[0]
    return rows(inner)


def rows(text: str) -> list[list[str]]:
    """The cells of every row of a table, without its head."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def plain(cell: str) -> str:
    """A cell without its backticks."""
    return cell.strip("`")
