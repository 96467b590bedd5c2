# SPDX-License-Identifier: Apache-2.0
"""lazy: a click group that imports a command when it is named, so that `pvc` starts as fast as its smallest part.

What plugins add below it stands after its own commands, and never in the place of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from pvc_cli import contributed


class LazyGroup(click.Group):
    """A group whose subcommands are "module:attribute" strings, in the order in which help shows them."""

    def __init__(self, *arguments: Any, lazy: Mapping[str, str] | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        own = self._own_names(ctx)
        return own + [name for name in sorted(contributed.below(ctx, own)) if name not in own]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = self.own_command(cmd_name)
        if own is not None:
            return own
        return contributed.command_for(ctx, cmd_name, self._own_names(ctx), _group_of_plugins)

    def own_command(self, name: str) -> click.Command | None:
        """The command that PVC itself has under this name."""
        if name not in self.commands and name in self._lazy:
            module, _, attribute = self._lazy[name].partition(":")
            command = getattr(import_module(module), attribute)
            if not isinstance(command, click.Command):
                raise TypeError(f"{self._lazy[name]} is not a click command")
            self.add_command(command, name)
        return self.commands.get(name)

    def _own_names(self, ctx: click.Context) -> list[str]:
        """The commands that PVC itself has here, in the order of the help."""
        return list(self._lazy) + [name for name in super().list_commands(ctx) if name not in self._lazy]


def _group_of_plugins(name: str, summary: str) -> LazyGroup:
    return LazyGroup(name, help=summary)
