# SPDX-License-Identifier: Apache-2.0
"""plugin_drafts: the distribution that an author begins with: a plugin that works, with tests that pass.

The files in `plugin_templates` are the one source: `pvc plugin new` fills them in, and so is
`examples/pvc-selector-acme` made.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pvc_core.errors import InvalidInput

KINDS: Mapping[str, str] = {
    "selector": "selectors",
    "filter": "filters",
    "recovery-policy": "recovery_policies",
    "fence-agent": "fence_agents",
}
"""What can be begun, with the kind of driver that it registers."""

LONGEST_NAME = 40
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PLACE = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Draft:
    """A distribution before it is written. files: their texts by path within its folder."""

    kind: str
    name: str
    distribution: str
    module: str
    files: Mapping[str, str]


def check_name(name: str) -> None:
    """Refuse what cannot name a driver, a distribution and a module alike. Raises `InvalidInput`."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME or name == "none":
        form = f"small letters and digits in words joined by '-', a letter first, {LONGEST_NAME} characters at most"
        raise InvalidInput("NAME", "cannot be the name of a plugin", name, (form,))


def draft(kind: str, name: str) -> Draft:
    """The distribution for a plugin of this kind and name. Raises `InvalidInput`."""
    check_name(name)
    distribution = f"pvc-{kind}-{name}"
    module = distribution.replace("-", "_")
    words = {
        "kind": kind.replace("-", " "),
        "name": name,
        "distribution": distribution,
        "module": module,
        "class": "".join(word.capitalize() for word in name.split("-")),
    }
    texts = tomllib.loads(_template(kind, "about.toml"))
    words |= {place: _filled(text.strip("\n"), words) for place, text in texts.items()}
    source = f"src/{module}"
    found = {
        "pyproject.toml": _template("every-kind", "pyproject.toml.template"),
        "README.md": _template("every-kind", "README.md.template"),
        f"{source}/__init__.py": _template(kind, "module.py.template"),
        f"{source}/py.typed": "",
        f"tests/test_{name.replace('-', '_')}.py": _template(kind, "test.py.template"),
    }
    return Draft(kind, name, distribution, module, {path: _filled(text, words) for path, text in found.items()})


def _template(folder: str, file: str) -> str:
    return (files("pvc_cli") / "plugin_templates" / folder / file).read_text()


def _filled(text: str, words: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: words[place[1]], text)


def write(planned: Draft, folder: Path) -> None:
    """Write the files below a folder, over those of the same names."""
    for path, text in planned.files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    # make docs: the example of the repository is a draft like any other.
    write(draft("selector", "acme"), Path(sys.argv[1]))
