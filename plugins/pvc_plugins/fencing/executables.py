# SPDX-License-Identifier: Apache-2.0
"""executables: finds a fence agent of this machine by its name, runs it once, and reads its description of itself.

Nothing is on its command line but, for the description, what asks for it; the rest it reads, so that no secret is in
a list of processes. It has a deadline, after which it and everything it started are killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pvc_core.child_process import CommandFailed, Ended, run
from pvc_plugins.fencing.parameters import executable_name, input_of

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Description:
    """What an executable says it can do."""

    parameters: frozenset[str]
    actions: frozenset[str]


def find(name: str, folders: Sequence[str]) -> Path:
    """The first executable of that name. Raises `CommandFailed`."""
    for folder in folders:
        path = Path(folder) / name
        if path.is_file():
            return path
    raise CommandFailed(f"is not installed here; looked for in {', '.join(folders)}")


def run_action(action: str, device: Mapping[str, str], folders: Sequence[str], deadline_s: float) -> Ended:
    """Run the device's executable for one action. Raises `CommandFailed` or `UnusableDevice`."""
    path = find(executable_name(device), folders)
    return run([str(path)], input_of(action, device), deadline_s, ENVIRONMENT)


def describe(path: Path, deadline_s: float) -> Description:
    """What the executable can do, by its own word. Raises `CommandFailed`."""
    from lxml import etree

    ended = run([str(path), "-o", "metadata"], b"", deadline_s, ENVIRONMENT)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(ended.answer.strip(), parser)
    except etree.XMLSyntaxError as error:
        raise CommandFailed("does not describe itself as a fence agent does") from error
    parameters, actions = (
        frozenset(name for found in root.iter(tag) if (name := found.get("name"))) for tag in ("parameter", "action")
    )
    return Description(parameters, actions)
