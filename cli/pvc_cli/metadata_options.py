# SPDX-License-Identifier: Apache-2.0
"""metadata_options: the options that say how PVC treats a VM, the same on `define` and on `meta`.

Only what was given is sent, so that `meta` changes nothing else and `define` leaves the rest to the cluster's
defaults. Ranges and names are checked by the API, which knows the cluster and names what it would accept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from pvc_cli.references import LimitEntry, SelectorReference
from pvc_cli.session import F

METADATA_FIELDS = (
    "node_limit",
    "node_selector",
    "node_autostart",
    "migration_method",
    "max_downtime_ms",
    "recovery_policy",
    "priority",
    "shutdown_timeout_s",
    "on_poweroff",
    "start_failures",
    "relocations",
    "held_until",
    "tags",
    "profile",
)
"""The fields of a VM that `define` and `meta` set."""
MIGRATION_METHODS = ("live", "shutdown", "none")
ON_POWEROFF = ("restart", "stop")
HELD_UNTIL = ("home", "any")


class NumberOrDefault(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """A number, or `default` for the cluster's own setting (None)."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "default":
            return "default"
        converted: int = click.INT.convert(value, param, ctx)
        return converted


def metadata_options(command: F) -> F:
    """All options that set metadata. The command collects them with `metadata_patch`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def metadata_patch(options: dict[str, Any]) -> dict[str, object]:
    """The fields that were given, as the API takes them."""
    patch = {name: value for name, value in options.items() if value is not None and value != ()}
    for name in ("node_limit", "tags"):
        if name in patch:
            patch[name] = names_in(patch[name])
    for name in ("shutdown_timeout_s", "start_failures", "relocations"):
        if patch.get(name) == "default":
            patch[name] = None
    return patch


def names_in(values: Iterable[str]) -> list[str]:
    """Names from repeated, comma-separated options, spaces allowed, each once; an empty one adds none."""
    return list(dict.fromkeys(name for value in values for name in value.replace(",", " ").split()))


_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "-l",
        "--node-limit",
        metavar="NODES",
        multiple=True,
        type=LimitEntry(),
        help="Nodes it may run on, by name or as label:NAME=VALUE, comma-separated or repeated; "
        '"" allows any.  [default: any]',
    ),
    click.option(
        "-s",
        "--node-selector",
        metavar="SELECTOR",
        type=SelectorReference(),
        help="How its node is chosen: mem, memprov, load, vcpus, vms, even or a plugin's, or several with weights, "
        'such as mem:2,load:1; "" leaves it to the cluster.  [default: the cluster\'s]',
    ),
    click.option(
        "-a/-A",
        "--node-autostart/--no-node-autostart",
        default=None,
        help="Start it whenever its home becomes ready, unless it is disabled.  [default: no-node-autostart]",
    ),
    click.option(
        "--migration-method",
        type=click.Choice(MIGRATION_METHODS),
        help="How it leaves a node: live, by shutdown, or live and by shutdown if that fails (none).  [default: none]",
    ),
    click.option(
        "--max-downtime-ms",
        metavar="MS",
        type=int,
        help="Longest pause of the guest at the end of a live migration, 1 to 60000 ms.  [default: 300]",
    ),
    click.option(
        "--recovery-policy",
        metavar="POLICY",
        help="What happens to it when its node is drained without another place, or dies.  [default: restart]",
    ),
    click.option(
        "--priority", metavar="N", type=int, help="Higher goes first in a drain, -1000 to 1000.  [default: 0]"
    ),
    click.option(
        "--shutdown-timeout-s",
        metavar="SECONDS",
        type=NumberOrDefault(),
        help="How long the guest may take to power off before it is terminated, 0 to 86400 s, or `default`.  "
        "[default: the cluster's]",
    ),
    click.option(
        "--on-poweroff",
        type=click.Choice(ON_POWEROFF),
        help="What follows when its guest powers off by itself: it is started again, or stays off.  [default: restart]",
    ),
    click.option(
        "--start-failures",
        metavar="N",
        type=NumberOrDefault(),
        help="How often it may fail to start or crash within the cluster's window before it is given up, 1 to 100, or "
        "`default`.  [default: the cluster's]",
    ),
    click.option(
        "--relocations",
        metavar="N",
        type=NumberOrDefault(),
        help="On how many other nodes it is tried, one after the other, when it has failed, 0 to 16, or `default`.  "
        "[default: the cluster's]",
    ),
    click.option(
        "--held-until",
        type=click.Choice(HELD_UNTIL),
        help="When it was stopped for want of a node: it waits for its home, or starts on any node that can take it.  "
        "[default: home]",
    ),
    click.option(
        "--tag",
        "tags",
        metavar="TAG",
        multiple=True,
        help='A tag of its own; repeat it for several. Replaces all tags; "" removes them.  [default: none]',
    ),
    click.option("--profile", metavar="NAME", help="The profile it was made from, for people.  [default: none]"),
]
