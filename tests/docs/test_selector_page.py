# SPDX-License-Identifier: Apache-2.0
"""The ten-minute page, typed as it stands in an environment with nothing but PVC's wheel, ends as it says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from pages import ROOT, files
from typed_pages import assert_shows, lines_of, typed

from pvc_cli.plugin_drafts import draft
from wheel_building import Environment, checked

pytestmark = pytest.mark.timeout(600)  # the first to use it makes the environment, with packages from the network

PAGE = ROOT / "docs/plugins/selector.md"
LINES = lines_of(PAGE)


@pytest.fixture(scope="module")
def outputs(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What the reader saw, by command; the last of equal ones."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "work"
    folder.mkdir()
    reader = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PVC_", "XDG_", "PYTHON"))},
        "HOME": str(home),
        "PATH": f"{environment.folder / 'bin'}:{os.environ['PATH']}",
    }
    begin = next(number for number, line in enumerate(LINES) if line.command.startswith("cd ")) + 1
    try:
        printed = typed(LINES[:begin], folder, reader)
        project = folder / "pvc-selector-quiet"
        check_files(project)
        printed += typed(LINES[begin:], project, reader)
    finally:
        checked([environment.program("pvc-demo"), "down"], folder, HOME=str(home), XDG_STATE_HOME="")
        environment.remove("pvc-selector-quiet")
    return {line.command: output for line, output in zip(LINES, printed, strict=True)}


def check_files(project: Path) -> None:
    """What `pvc plugin new` wrote is what the page shows; what it did not write, the reader does."""
    for name, text in files(PAGE).items():
        file = project / name
        if name.endswith(".xml"):
            file.write_text(text)
        assert file.read_text() == text, name


def test_the_page_shows_the_files_that_are_written() -> None:
    written = draft("selector", "quiet").files
    shown = files(PAGE)
    assert {name: text for name, text in shown.items() if name in written} == {
        name: written[name] for name in shown if name in written
    }
    assert set(shown) - set(written) == {"web1.xml"}


def test_every_command_works_and_prints_what_the_page_shows(outputs: Mapping[str, str]) -> None:
    shown_last = {line.command: line for line in LINES}
    for command, line in shown_last.items():
        assert_shows(line, outputs[command])


def test_the_page_goes_on_to_the_end() -> None:
    commands = [line.command for line in LINES]
    assert "pvc-demo down" in commands
    assert commands[-1].startswith("pip wheel")


def test_its_tests_pass(outputs: Mapping[str, str]) -> None:
    assert " passed" in outputs["pytest"]
    assert "failed" not in outputs["pytest"]


def test_the_environment_has_no_libvirt(environment: Environment) -> None:
    script = "import importlib.util; print(importlib.util.find_spec('libvirt'))"
    assert environment.run("-c", script) == "None\n"
