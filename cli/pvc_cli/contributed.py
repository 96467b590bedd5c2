# SPDX-License-Identifier: Apache-2.0
"""contributed: the commands that plugins add to `pvc`: found when one may be meant, imported when one is run.

Plugins are looked for only where a distribution other than PVC's own brings one, so that `pvc` starts as fast as
without; then once per invocation, when help is shown or a word is no command of `pvc` itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from pvc_cli.output import note
from pvc_cli.session import Session
from pvc_core.errors import PluginError, PvcError

if TYPE_CHECKING:
    from pvc_core.contributions import CliCommand

ENTRY_POINT_GROUP = "pvc"
OWN_DISTRIBUTION = "pvc"
_FOUND = "pvc_cli.contributed"

MakeGroup = Callable[[str, str], click.Group]


@dataclass(frozen=True)
class PluginCommands:
    """What plugins add, by path; and a sentence for each plugin or command that was refused."""

    by_path: Mapping[tuple[str, ...], CliCommand] = field(default_factory=dict)
    problems: Sequence[str] = ()


def plugin_commands(context: click.Context) -> PluginCommands:
    """Of this invocation; looked for once."""
    found: PluginCommands | None = context.meta.get(_FOUND)
    if found is None:
        session = context.find_object(Session)
        environment = session.environment if session else os.environ
        found = context.meta[_FOUND] = _load(environment) if _others_bring_plugins() else PluginCommands()
    return found


def below(context: click.Context) -> dict[str, list[CliCommand]]:
    """What plugins add below the group of this context, by its next word."""
    path = path_of(context)
    found: dict[str, list[CliCommand]] = {}
    for known, command in plugin_commands(context).by_path.items():
        if len(known) > len(path) and known[: len(path)] == path:
            found.setdefault(known[len(path)], []).append(command)
    return found


def path_of(context: click.Context) -> tuple[str, ...]:
    """The words that led to this context, without the first."""
    words: list[str] = []
    step: click.Context | None = context
    while step is not None and step.parent is not None:
        words.insert(0, step.info_name or "")
        step = step.parent
    return tuple(words)


def command_for(context: click.Context, word: str, make_group: MakeGroup) -> click.Command | None:
    """The command that plugins add under this word below the context's group, or a group for those further below."""
    commands = below(context).get(word)
    if not commands:
        return None
    path = (*path_of(context), word)
    exact = [command for command in commands if command.path == path]
    if exact:
        return LoadedWhenRun(exact[0])
    names = ", ".join(sorted({command.plugin for command in commands}))
    return make_group(word, f"Commands of the plugin {names}.")


class LoadedWhenRun(click.Command):
    """Stands for a plugin's command in the help, and becomes it when it is run."""

    def __init__(self, entry: CliCommand) -> None:
        super().__init__(entry.path[-1], help=entry.summary, short_help=entry.summary)
        self._entry = entry

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The real command's. Raises `PluginError` when there is none."""
        session = parent.find_object(Session) if parent else None
        if session is not None:
            session.plugin = self._entry.plugin
        return self._real().make_context(info_name, args, parent, **extra)

    def _real(self) -> click.Command:
        from pvc_core.plugin_threads import ask_here

        return ask_here(self._entry.plugin, _import, self._entry)


def _import(entry: CliCommand) -> click.Command:
    from importlib import import_module

    found: object = entry.load
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(import_module(module), attribute)
    if not isinstance(found, click.Command) and callable(found):
        found = found()
    if not isinstance(found, click.Command):
        raise PluginError(entry.plugin, f"pvc {entry.name}: {entry.load!r} leads to no click command")
    return found


def refusals(root: click.Group, context: click.Context) -> Iterable[str]:
    """A sentence for each command that cannot be reached, because `pvc` has its own under that name or above it."""
    for path, entry in plugin_commands(context).by_path.items():
        group: click.Command | None = root
        for word in path:
            own = getattr(group, "own_command", None)
            if own is None:
                yield f"plugin {entry.plugin}: `pvc {entry.name}` is refused: what is above it is no group"
                break
            group = own(word)
            if group is None:
                break
        else:
            yield f"plugin {entry.plugin}: `pvc {entry.name}` is refused: pvc has that command itself"


def _others_bring_plugins() -> bool:
    """Whether a distribution but PVC's own has a plugin. Reads metadata, imports none."""
    from importlib.metadata import entry_points

    points = entry_points(group=ENTRY_POINT_GROUP)
    return any(point.dist is None or point.dist.name.lower() != OWN_DISTRIBUTION for point in points)


def _load(environment: Mapping[str, str]) -> PluginCommands:
    """Whatever is wrong with a plugin or the configuration costs plugins' commands and nothing else."""
    from pvc_cli.asking import configured_plugins
    from pvc_core.registry import Registry

    try:
        registry = Registry.load(*configured_plugins(environment))
    except PvcError as error:
        note(f"without the commands of plugins: {error.sentence()}")
        return PluginCommands()
    return PluginCommands({entry.path: entry for entry in registry.cli_commands.values()}, registry.problems)
