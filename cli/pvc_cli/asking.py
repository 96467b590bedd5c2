# SPDX-License-Identifier: Apache-2.0
"""asking: a question that changes nothing goes to the API or, with `--snapshot FILE`, to the same code in this process.

With a snapshot no cluster is needed. The drivers are then those of this machine's plugins, so that a plan made here
needs the plugins that the cluster has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from pvc_cli.session import F, Session
from pvc_cli.text_files import read_text

if TYPE_CHECKING:
    from pvc_core.capacity import VmSize
    from pvc_core.questions import Questions

MAX_SNAPSHOT_BYTES = 64 * 1024 * 1024
_SIZE = re.compile(r"(?P<number>[0-9]+)\s*(?P<unit>MiB|GiB|M|G)?\s*,\s*(?P<vcpus>[0-9]+)", re.IGNORECASE)
_GIB = ("gib", "g")


def snapshot_option(command: F) -> F:
    """--snapshot, for commands that ask about the cluster."""
    return click.option(
        "--snapshot",
        "snapshot_file",
        metavar="FILE",
        default="",
        type=click.Path(allow_dash=True),
        show_default=False,
        help="Ask about the cluster in this file of `pvc cluster snapshot`; `-` reads stdin.  [default: the real one]",
    )(command)


class SizeOfVm(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """A VM's memory and vCPUs: 4096MiB,2."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> VmSize:
        from pvc_core.capacity import VmSize

        if isinstance(value, VmSize):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not a memory and a number of vCPUs, such as 4096MiB,2 or 4GiB,2", param, ctx)
        unit_mib = 1024 if (found["unit"] or "").lower() in _GIB else 1
        size = VmSize(int(found["number"]) * unit_mib, int(found["vcpus"]))
        if not (size.memory_mib and size.vcpus):
            self.fail(f"{value!r} is nothing: memory and vCPUs are at least 1", param, ctx)
        return size


def ask(
    session: Session,
    snapshot_file: str,
    question: Callable[[Questions], object],
    *path: str,
    parameters: Mapping[str, str] | None = None,
) -> Any:
    """The answer as a document: of the API at `path`, or of the cluster in a file."""
    if not snapshot_file:
        return session.api.request("GET", *path, parameters=parameters).document
    import msgspec

    return msgspec.to_builtins(question(_questions(snapshot_file, session.environment)))


def _questions(file: str, environment: Mapping[str, str]) -> Questions:
    """The cluster of a file, with this machine's plugins."""
    from pvc_core.placement import Placer
    from pvc_core.questions import Questions
    from pvc_core.registry import Registry
    from pvc_core.snapshot_file import read_snapshot

    snapshot = read_snapshot(read_text(file, "the snapshot", MAX_SNAPSHOT_BYTES), file)
    registry = Registry.load(*configured_plugins(environment))
    return Questions(snapshot, Placer(registry), registry.recovery_policies)


def configured_plugins(environment: Mapping[str, str]) -> tuple[tuple[str, ...], Mapping[str, object]]:
    """What this machine blocks, and what it says to plugins; nothing on one that is no part of a cluster."""
    from pvc_core.configuration import configuration_path, load_configuration

    path = configuration_path(environment.get("PVC_CONFIG") or None)
    if not os.access(path, os.R_OK):
        return (), {}
    configuration = load_configuration(str(path))
    return configuration.plugins.blocked, configuration.plugin
