# SPDX-License-Identifier: Apache-2.0
"""contributed: the commands that plugins add to `pvc`: found when one may be meant, imported when one is run.

Plugins are loaded once per invocation, when help is shown or a word is no command of `pvc` itself, and only where one
may have something to say, so that `pvc` starts as fast as without. A plugin of another distribution may add anything;
where PVC's own plugins do is read from the entry points of the group `pvc.commands` without importing one:

    "storage.ceph" = "pvc_storage_backends.ceph.plugin"

says that this module's plugin adds commands at or below `pvc storage ceph`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from pvc_cli.output import note
from pvc_cli.session import Session, output_option
from pvc_core.errors import PluginError, PvcError

if TYPE_CHECKING:
    from pvc_core.contributions import CliCommand

ENTRY_POINT_GROUP = "pvc"
OWN_COMMANDS_GROUP = "pvc.commands"
OWN_DISTRIBUTION = "pvc"
_FOUND = "pvc_cli.contributed"
_PLACES = "pvc_cli.contributed.places"

MakeGroup = Callable[[str, str], click.Group]


@dataclass(frozen=True)
class PluginCommands:
    """What plugins add, by path; and a sentence for each plugin or command that was refused."""

    by_path: Mapping[tuple[str, ...], CliCommand] = field(default_factory=dict)
    problems: Sequence[str] = ()


@dataclass(frozen=True)
class Places:
    """Where plugins may add commands, as far as metadata says. by_others: whether there are other people's plugins."""

    by_others: bool
    own: Collection[tuple[str, ...]]

    def may_add_below(self, path: tuple[str, ...], own_commands: Collection[str]) -> bool:
        """Whether one may stand below the group at `path`, beside or instead of the commands that it has itself."""
        return self.by_others or any(self._adds_below(path, place, own_commands) for place in self.own)

    @staticmethod
    def _adds_below(path: tuple[str, ...], place: tuple[str, ...], own_commands: Collection[str]) -> bool:
        if len(place) <= len(path):
            return place == path[: len(place)]
        return place[: len(path)] == path and place[len(path)] not in own_commands


def plugin_commands(context: click.Context) -> PluginCommands:
    """Of this invocation; looked for once."""
    found: PluginCommands | None = context.meta.get(_FOUND)
    if found is None:
        session = context.find_object(Session)
        found = context.meta[_FOUND] = _load(session.environment if session else os.environ)
    return found


def below(context: click.Context, own_commands: Collection[str]) -> dict[str, list[CliCommand]]:
    """What plugins add below the group of this context, by its next word; `own_commands` are those it has itself."""
    path = path_of(context)
    found: dict[str, list[CliCommand]] = {}
    if not _places(context).may_add_below(path, own_commands):
        return found
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


def command_for(
    context: click.Context, word: str, own_commands: Collection[str], make_group: MakeGroup
) -> click.Command | None:
    """The command that plugins add under this word below the context's group, or a group for those further below."""
    commands = below(context, own_commands).get(word)
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
        return self.real().make_context(info_name, args, parent, **extra)

    def real(self) -> click.Command:
        """What the plugin's entry leads to. Raises `PluginError` when that is no command."""
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
    if not isinstance(found, click.Group) and not any({"-o", "--output"} & {*one.opts} for one in found.params):
        output_option(found)
    return found


def refusals(root: click.Group, context: click.Context) -> Iterable[str]:
    """A sentence for each command that cannot be reached, because `pvc` has its own under that name or above it."""
    found = plugin_commands(context) if _places(context).by_others else PluginCommands()
    for path, entry in found.by_path.items():
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


def _places(context: click.Context) -> Places:
    """Of this invocation. Reads metadata, imports no plugin."""
    places: Places | None = context.meta.get(_PLACES)
    if places is None:
        from importlib.metadata import entry_points

        points = entry_points()
        plugins = points.select(group=ENTRY_POINT_GROUP)
        by_others = any(point.dist is None or point.dist.name.lower() != OWN_DISTRIBUTION for point in plugins)
        own = {tuple(point.name.split(".")) for point in points.select(group=OWN_COMMANDS_GROUP)}
        places = context.meta[_PLACES] = Places(by_others, own)
    return places


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
