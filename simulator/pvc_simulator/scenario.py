# SPDX-License-Identifier: Apache-2.0
"""scenario: a folder with a cluster, what happens to it, what must come of that, and the same in prose.

`README.md`, `cluster.yaml`, `script.yaml` and `expected.yaml`; only the cluster has to be there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml

from pvc_core.errors import InvalidInput
from pvc_core.snapshot_file import SnapshotFile, parse_file
from pvc_simulator.expectations import Expected, read_expected, unmet
from pvc_simulator.run import Outcome, Run
from pvc_simulator.script import Line, read_script

CLUSTER, SCRIPT, EXPECTED, README = "cluster.yaml", "script.yaml", "expected.yaml", "README.md"


@dataclass(frozen=True)
class Scenario:
    """What stands in the folder."""

    name: str
    file: SnapshotFile
    script: tuple[Line, ...]
    expected: Expected

    def play(self, seed: int = 0) -> tuple[Outcome, list[str]]:
        """What came of it, and a sentence for everything that was to come otherwise."""
        outcome = Run(self.file, self.script, seed).play()
        return outcome, unmet(self.expected, outcome)


def read_scenario(folder: Path) -> Scenario:
    """Raises `InvalidInput` naming the file and what is wrong in it."""
    if not folder.is_dir():
        raise InvalidInput("scenario", "is no folder", str(folder))
    cluster = _text(folder / CLUSTER)
    if cluster is None:
        raise InvalidInput("scenario", f"has no {CLUSTER}", str(folder))
    file = parse_file(cluster, f"{folder.name}/{CLUSTER}")
    script, expected = _text(folder / SCRIPT), _text(folder / EXPECTED)
    return Scenario(
        folder.name,
        file,
        read_script(script, file, f"{folder.name}/{SCRIPT}") if script is not None else (),
        read_expected(expected, f"{folder.name}/{EXPECTED}") if expected is not None else Expected(),
    )


def write_scenario(folder: Path, file: SnapshotFile, script: tuple[Line, ...], prose: str) -> None:
    """A folder that `read_scenario` reads. Raises `InvalidInput` when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CLUSTER).write_text(yaml.safe_dump(msgspec.to_builtins(file), sort_keys=False))
        lines = [yaml.safe_dump([line.shown()], default_flow_style=True, width=1000) for line in script]
        (folder / SCRIPT).write_text("".join(f"- {text.strip()[1:-1]}\n" for text in lines))
        (folder / README).write_text(prose)
    except OSError as error:
        raise InvalidInput("folder", f"cannot be written: {error.strerror}", str(folder)) from error


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("scenario", f"{path.name} cannot be read: {error}", str(path.parent)) from error
