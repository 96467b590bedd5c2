# SPDX-License-Identifier: Apache-2.0
"""plugin_new: `pvc plugin new`: a plugin of one's own, begun with one that works and with tests that pass."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import click

from pvc_cli.output import emit
from pvc_cli.plugin_drafts import KINDS, Draft, draft, write
from pvc_cli.session import Session, output_option, pass_session
from pvc_core.errors import AlreadyExists, Refused

FOLDER_MODE = 0o755


@click.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), required=True, help="What it registers.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where to write it; it must be new or empty.  [default: pvc-KIND-NAME here]",
)
@output_option
@pass_session
def new(session: Session, name: str, kind: str, folder: Path | None) -> None:
    """Write a new plugin NAME, to be changed into your own.

    It is a distribution that can be installed and that works, with tests that pass; needs no cluster.
    """
    planned = draft(kind, name)
    _refuse_taken(planned)
    target = folder or Path(planned.distribution)
    _write(planned, target)
    document = {
        "name": planned.name,
        "kind": planned.kind,
        "distribution": planned.distribution,
        "module": planned.module,
        "folder": str(target),
        "files": sorted(planned.files),
    }
    emit(session.output, document, lambda: _next_steps(planned, target), lambda: [str(target)])


def _refuse_taken(planned: Draft) -> None:
    """A name that another plugin has would be refused to both when they are loaded. Raises `AlreadyExists`."""
    from pvc_core.registry import Registry

    registry = Registry.load()
    kind = KINDS[planned.kind]
    if planned.name in registry.driver_names[kind]:
        raise AlreadyExists(planned.kind, planned.name)
    if any(plugin.name == planned.name for plugin in registry.plugins):
        raise AlreadyExists("plugin", planned.name)


def _write(planned: Draft, folder: Path) -> None:
    """All of it or nothing. Raises `Refused`."""
    if folder.exists() and any(folder.iterdir()):
        raise Refused(str(folder), "it is there already and is not empty")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise Refused(str(folder), f"it cannot be written: {error.strerror}") from error
    try:
        write(planned, unfinished)
        unfinished.chmod(FOLDER_MODE)
        os.replace(unfinished, folder)  # fails when somebody has put something into it meanwhile
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise Refused(str(folder), f"it cannot be written: {error.strerror}") from error


def _next_steps(planned: Draft, folder: Path) -> str:
    return (
        f"{planned.distribution} is written to {folder}. Next:\n\n"
        f"    cd {folder}\n"
        f"    pip install -e '.[test]'\n"
        f"    pytest\n"
        f"    pvc plugin show {planned.name}\n\n"
        f"What it does is in src/{planned.module}/__init__.py; README.md says how it is used."
    )
