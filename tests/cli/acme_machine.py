# SPDX-License-Identifier: Apache-2.0
"""A machine of an embedded cluster on which `pvc` runs as a process, with a folder of distributions on its path."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPT = (
    "import sys, atexit\n"
    "atexit.register(lambda: print('LOADED', 'pvc_core.registry' in sys.modules, file=sys.stderr))\n"
    "sys.argv[0] = 'pvc'\n"
    "from pvc_cli.main import main\n"
    "main()"
)


@dataclass(frozen=True)
class AcmeMachine:
    """Its folder holds the configurations `pvc.toml` and `blocked.toml`, without Acme's plugin, and `site`."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> AcmeMachine:
        """With nothing in `site` yet."""
        (folder / "site").mkdir()
        cluster = f'[cluster]\nstore = "sqlite://{folder}/store.db"\n'
        (folder / "pvc.toml").write_text(cluster)
        (folder / "blocked.toml").write_text(f'{cluster}[plugins]\nblocked = ["acme"]\n')
        return cls(folder)

    @property
    def site(self) -> Path:
        """What is installed beside PVC."""
        return self.folder / "site"

    def pvc(
        self, *words: str, config: str = "pvc.toml", with_acme: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `pvc`. Its stderr says whether plugins were loaded."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PVC_CONFIG": str(self.folder / config),
            **({"PYTHONPATH": str(self.site)} if with_acme else {}),
            **variables,
        }
        argv = [sys.executable, "-c", SCRIPT, *words]
        # Elsewhere than in the repository, whose own metadata would come before that of `site`.
        return subprocess.run(
            argv, cwd=self.folder, capture_output=True, text=True, check=False, env=environment, timeout=60
        )
