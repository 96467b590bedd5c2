# SPDX-License-Identifier: Apache-2.0
"""`pvc plugin new` writes all of a plugin or nothing, and never over anybody's work; it needs no cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_runner import Cli

from pvc_cli.plugin_drafts import KINDS, draft


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command is given."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def written(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_it_writes_a_distribution_named_after_kind_and_name(run: Cli, here: Path, kind: str) -> None:
    ran = run("plugin", "new", "zebra", "--kind", kind)
    assert ran.status == 0, ran.err
    assert written(here / f"pvc-{kind}-zebra") == dict(draft(kind, "zebra").files)
    assert f"cd pvc-{kind}-zebra" in ran.out
    assert "pvc plugin show zebra" in ran.out


def test_a_script_gets_what_was_written(run: Cli, here: Path) -> None:
    document = run("plugin", "new", "zebra", "--kind", "selector", "--folder", "deep/er", "-o", "json").document
    assert document["folder"] == "deep/er"
    assert document["module"] == "pvc_selector_zebra"
    assert sorted(written(here / "deep/er")) == document["files"]


def test_an_empty_folder_is_filled(run: Cli, here: Path) -> None:
    (here / "mine").mkdir()
    assert run("plugin", "new", "zebra", "--kind", "filter", "--folder", "mine").status == 0
    assert "pyproject.toml" in written(here / "mine")


def test_a_folder_with_anything_in_it_is_left_alone(run: Cli, here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine/thesis.tex").write_text("years of work")
    ran = run("plugin", "new", "zebra", "--kind", "filter", "--folder", "mine")
    assert ran.status == 5
    assert "mine: it is there already and is not empty" in ran.err
    assert written(here) == {"mine/thesis.tex": "years of work"}


def test_a_folder_that_cannot_be_made_is_said_to_be_so_and_nothing_is_left(run: Cli, here: Path) -> None:
    (here / "file").write_text("")
    ran = run("plugin", "new", "zebra", "--kind", "filter", "--folder", "file/mine")
    assert ran.status == 5
    assert "file/mine: it cannot be written" in ran.err
    assert os.listdir(here) == ["file"]


@pytest.mark.parametrize("name", ["Zebra", "ze_bra", "../zebra", "none", "-zebra"])
def test_a_bad_name_is_refused_with_the_form_of_good_ones(run: Cli, here: Path, name: str) -> None:
    ran = run("plugin", "new", "--kind", "selector", "--", name)
    assert ran.status == 2
    assert f"NAME {name!r}: cannot be the name of a plugin (allowed: small letters and digits" in ran.err
    assert os.listdir(here) == []


@pytest.mark.parametrize(("kind", "name"), [("selector", "mem"), ("filter", "limit"), ("recovery-policy", "stay")])
def test_the_name_of_a_driver_of_this_kind_is_taken(run: Cli, here: Path, kind: str, name: str) -> None:
    ran = run("plugin", "new", name, "--kind", kind)
    assert ran.status == 5
    assert f"a {kind} {name!r} exists already" in ran.err
    assert os.listdir(here) == []


def test_the_name_of_another_plugin_is_taken(run: Cli) -> None:
    ran = run("plugin", "new", "stores", "--kind", "selector")
    assert ran.status == 5
    assert "a plugin 'stores' exists already" in ran.err


def test_the_kind_has_to_be_said(run: Cli) -> None:
    ran = run("plugin", "new", "zebra")
    assert ran.status == 2
    assert "--kind" in ran.err
