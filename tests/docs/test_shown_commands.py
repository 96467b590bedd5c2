# SPDX-License-Identifier: Apache-2.0
"""Every command that a page shows exists: its program, its target, its subcommand, its options."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click
import pytest
from pages import PAGES, ROOT, Shown, commands, inline_code, name_of

from pvc_cli.main import cli
from pvc_cli.session import Session
from pvc_lab import packages
from pvc_lab.__main__ import DEFAULT_ROOT

SHOWN = [shown for page in PAGES for shown in commands(page)]
MAKE_TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))

COVERED = {
    "pvc-node": "tests/docs/test_tutorials.py",
    "pvc-api": "tests/docs/test_tutorials.py",
    "python3 -m venv /opt/pvc": "tests/architecture/test_wheel.py",
    "/opt/pvc/bin/pip install '.[libvirt]'": "tests/architecture/test_wheel.py",
    "systemctl enable --now pvc-node pvc-api": "tests/docs/test_systemd_units.py",
    "pip install -e '.[test]'": "tests/kit/test_plugin_drafts.py",
    "pytest": "tests/kit/test_plugin_drafts.py",
    "install -m 755 pvc-rank-coolest /usr/local/bin/pvc-rank-coolest": "tests/docs/test_exec_page.py",
    "/usr/local/bin/pvc-rank-coolest /var/lib/monitoring/inlet < question.json": "tests/docs/test_exec_page.py",
    ".venv/bin/pre-commit install": "tests/architecture/test_commands.py",
    f". {DEFAULT_ROOT}/access.sh": "tests/docs/test_shown_commands.py",
}
"""Commands that are not checked here, each with the test that shows that it works."""

TYPED = {
    "docs/plugins/selector.md": "tests/docs/test_selector_page.py",
    "docs/planning.md": "tests/docs/test_planning_page.py",
}
"""Pages of which every command is typed by a test of their own."""


def test_pages_show_commands() -> None:
    assert len(SHOWN) > 20, "the harness finds no commands any more"


@pytest.mark.parametrize("shown", SHOWN, ids=str)
def test_a_command_in_a_block_is_known_to_work(shown: Shown) -> None:
    if shown.text in COVERED or name_of(shown.page) in TYPED:
        return
    match shown.program:
        case "pvc":
            check_pvc(shown.words[1:])
        case "make":
            assert shown.words[1] in MAKE_TARGETS
        case "apt-get":
            check_packages(shown.words)
        case "python" | "python3":
            check_python(shown.words)
        case _:
            pytest.fail(f"no test covers {shown.text!r}: check it here, or name its test in COVERED")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_running_text_exist(page: Path) -> None:
    for code in inline_code(page):
        words = code.split()
        if words[0] == "make" and len(words) == 2:
            assert words[1] in MAKE_TARGETS, code
        elif words[0] == "pvc" and len(words) > 1 and "..." not in code:
            check_pvc_path(code)


def test_what_covers_a_command_exists() -> None:
    for text, test in {**COVERED, **TYPED}.items():
        assert (ROOT / test).exists(), f"{text}: {test}"


def check_pvc(arguments: list[str]) -> None:
    """The command line is acceptable to the real command: subcommands, options, the number of arguments."""
    command: click.Command = cli
    context, name = None, "pvc"
    while True:
        try:
            context = command.make_context(name, list(arguments), parent=context, obj=Session(environment={}))
        except click.exceptions.Exit:
            return  # --help, --version
        if not isinstance(command, click.Group):
            return
        rest = [*context._protected_args, *context.args]
        found, subcommand, arguments = command.resolve_command(context, rest)
        assert subcommand is not None, rest
        command, name = subcommand, found or ""


def check_pvc_path(code: str) -> None:
    """Subcommands and options exist; arguments may be left out in running text."""
    command: click.Command = cli
    context = click.Context(command, info_name="pvc", obj=Session(environment={}))
    for word in code.replace("'", "").split()[1:]:
        if word.startswith("-"):
            options = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            assert word.partition("=")[0] in {*options, "--help", "-h"}, f"{code}: {word}"
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            if found is None and word.isupper():
                return  # as in `pvc GROUP`
            assert found is not None, f"{code}: no command {word}"
            command, context = found, click.Context(found, context, info_name=word)


def check_packages(words: list[str]) -> None:
    """Debian's packages of the documentation are those that the lab and its Ceph install, and what builds a binding."""
    named = {word for word in words[2:] if not word.startswith("-")}
    assert named <= {*packages.PACKAGES, *packages.CEPH_PACKAGES, "gcc", "python3-dev", "python3-venv"}


def check_python(words: list[str]) -> None:
    """`python -m pytest` with paths that exist, or a module of ours."""
    assert words[1] == "-m", words
    if words[2] == "pytest":
        missing = [word for word in words[3:] if "/" in word and not (ROOT / word).exists()]
        assert not missing
    else:
        path = words[2].replace(".", os.sep)
        found = [ROOT / folder / f"{path}.py" for folder in (".", "lab", "cli", "api", "daemon")]
        found += [ROOT / folder / path / "__main__.py" for folder in (".", "lab")]
        assert any(file.exists() for file in found), f"no module {words[2]}"
