# SPDX-License-Identifier: Apache-2.0
"""plugin_configuration: what is configured for a plugin: what it declares, what is set, and what it gets to see.

A plugin declares its options as structs (`pvc_config_section`) and gets its own values, checked and frozen, with
every call; it never reads a file or the store. What is wrong on this machine costs the plugin, which is not loaded;
what is wrong in the cluster, where an upgraded plugin may find values of its former self, costs the value: the
default is used and the problem is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import structlog
from msgspec import inspect as types

from pvc_core.documented_fields import DocumentedField, described_fields, documented_fields
from pvc_core.errors import InvalidInput, PluginError
from pvc_core.model import Settings
from pvc_core.plugin_calls import DirectCalls, PluginCalls
from pvc_core.plugin_types import NO_OPTIONS, ConfigSection, PluginOptions
from pvc_core.strict_reading import meant, nearest, read_strictly, unknown_key

log = structlog.get_logger(__name__)

Values = Mapping[str, Any]
"""What is set of a plugin's cluster options, by field."""

OptionKind = Literal["machine", "cluster"]

_ONE_VALUE = (types.IntType, types.FloatType, types.BoolType, types.StrType, types.LiteralType, types.EnumType)


# ---------------------------------------------------------------------------------------------- declaring


def checked_section(plugin: str, declared: object) -> ConfigSection:
    """What `pvc_config_section` returned, if it keeps the rules. Raises `PluginError` naming the first it breaks."""
    if not isinstance(declared, ConfigSection):
        raise PluginError(plugin, f"pvc_config_section returned {type(declared).__name__} instead of a ConfigSection")
    for half, struct in (("machine", declared.machine), ("cluster", declared.cluster)):
        if struct is None:
            continue
        if not isinstance(struct, type) or not issubclass(struct, msgspec.Struct):
            raise PluginError(plugin, f"pvc_config_section: {half} is no msgspec.Struct class")
        for problem in _problems_of(struct):
            raise PluginError(plugin, f"pvc_config_section: {struct.__name__}{problem}")
        for field in msgspec.structs.fields(struct):
            if field.required:
                raise PluginError(plugin, f"pvc_config_section: {struct.__name__}.{field.name} has no default")
            if half == "cluster" and not _fits_a_command_line(types.type_info(field.type)):
                problem = "is no single value or list of them, which a command line could set"
                raise PluginError(plugin, f"pvc_config_section: {struct.__name__}.{field.name} {problem}")
    return declared


def _problems_of(struct: type[msgspec.Struct]) -> Iterator[str]:
    """What is wrong with a struct and those inside it; each continues the struct's name."""
    if not struct.__struct_config__.frozen:
        yield " is not frozen"
    try:
        meanings = documented_fields(struct)
    except (OSError, TypeError, SyntaxError):
        meanings = {}  # a plugin without its source: nobody can read there what is missing
    yield from (
        f".{name} has no sentence under it that says what it means" for name, text in meanings.items() if not text
    )
    for field in msgspec.structs.fields(struct):
        for inner in _structs_in(types.type_info(field.type)):
            yield from (f".{field.name}: {inner.__name__}{problem}" for problem in _problems_of(inner))


def _structs_in(kind: types.Type) -> Iterator[type[msgspec.Struct]]:
    match kind:
        case types.StructType():
            yield kind.cls
        case types.Metadata():
            yield from _structs_in(kind.type)
        case types.DictType():
            yield from _structs_in(kind.value_type)
        case types.ListType() | types.VarTupleType():
            yield from _structs_in(kind.item_type)
        case types.UnionType():
            for member in kind.types:
                yield from _structs_in(member)


def _fits_a_command_line(kind: types.Type) -> bool:
    match kind:
        case types.Metadata():
            return _fits_a_command_line(kind.type)
        case types.VarTupleType():
            item = kind.item_type
            return isinstance(item.type if isinstance(item, types.Metadata) else item, _ONE_VALUE)
        case types.UnionType():
            return all(isinstance(member, (*_ONE_VALUE, types.NoneType)) for member in kind.types)
    return isinstance(kind, _ONE_VALUE)


# -------------------------------------------------------------------------------------------- one plugin


class PluginConfiguration:
    """One plugin's declared options and what is configured of them on this machine. Thread-safe."""

    def __init__(
        self, plugin: str, section: ConfigSection, configured: object = None, calls: PluginCalls | None = None
    ) -> None:
        """configured: what the file says under `[plugin.<name>]`. Raises `PluginError` when it does not fit.

        calls: a struct may have a `__post_init__`, which is the plugin's code and called like any other.
        """
        self.plugin = plugin
        self.section = section
        self._calls = calls or DirectCalls()
        self._defaults = self._calls.load(plugin, self._default_options, {} if configured is None else configured)
        self._last: tuple[Values, PluginOptions] = ({}, self._defaults)
        self._reported: tuple[str, ...] = ()

    def _default_options(self, configured: object) -> PluginOptions:
        machine, cluster = self.section.machine, self.section.cluster
        try:
            given = read_strictly(configured, machine, f"plugin.{self.plugin}") if machine else None
        except InvalidInput as error:
            raise PluginError(self.plugin, f"its configuration is wrong: {error.sentence()}") from error
        return PluginOptions(given, cluster() if cluster else None)

    @cached_property
    def described(self) -> tuple[tuple[OptionKind, DocumentedField], ...]:
        """What can be configured, and whether for a machine or for the cluster."""
        halves: tuple[tuple[OptionKind, type[msgspec.Struct] | None], ...] = (
            ("machine", self.section.machine),
            ("cluster", self.section.cluster),
        )
        return tuple((kind, field) for kind, struct in halves if struct for field in described_fields(struct))

    @property
    def without_cluster(self) -> PluginOptions:
        """For calls that are made before a cluster is known."""
        return PluginOptions(self._defaults.machine)

    def options(self, settings: Settings) -> PluginOptions:
        """What the plugin gets to see under these settings; defaults where they do not fit."""
        values = settings.plugins.get(self.plugin)
        if not values or self.section.cluster is None:
            return self._defaults
        last = self._last
        if values is not last[0]:
            cluster, problems = self._fitted(values)
            if problems != self._reported:
                self._reported = problems
                for problem in problems:
                    log.warning("plugin_setting_does_not_fit", plugin=self.plugin, problem=problem)
            self._last = last = (values, PluginOptions(self._defaults.machine, cluster))
        return last[1]

    def values(self, settings: Settings) -> dict[str, Any]:
        """Its cluster options by name, as JSON has them; what is set but unknown to this version among them."""
        cluster = self.options(settings).cluster
        known = {} if cluster is None else _as_stored(cluster)
        return {**known, **{k: v for k, v in settings.plugins.get(self.plugin, {}).items() if k not in known}}

    def problems(self, settings: Settings) -> tuple[str, ...]:
        """A sentence for each value in the cluster that this version of the plugin cannot use."""
        return self._fitted(settings.plugins.get(self.plugin, {}))[1]

    def changed(self, values: Values, patch: Values) -> dict[str, Any]:
        """The values with the patch; None takes one back to its default. Raises `InvalidInput` naming the setting."""
        struct = self.section.cluster
        fields = {} if struct is None else {field.encode_name: field for field in msgspec.structs.fields(struct)}
        wanted = dict(values)
        for name, value in patch.items():
            path = f"{self.plugin}.{name}"
            if name not in fields and (value is not None or name not in values):
                near = nearest(name, fields)
                raise InvalidInput(
                    path,
                    f"is not a setting{meant(near and f'{self.plugin}.{near}')}",
                    allowed=() if near else [f"{self.plugin}.{field}" for field in fields],
                )
            if value is None:
                wanted.pop(name, None)
            else:
                wanted[name] = _as_stored(read_strictly(value, fields[name].type, path, literally=False))
        self._check_together(wanted)
        return wanted

    def _check_together(self, wanted: Values) -> None:
        """Values that are right each on its own may exclude one another. Raises `InvalidInput`."""
        if self.section.cluster is not None:
            fitting, _ = self._fitting(wanted)
            try:
                self._calls.load(self.plugin, self._cluster_options, fitting)
            except PluginError as error:
                raise InvalidInput(self.plugin, error.problem.partition(": ")[2] or error.problem) from error

    def _fitted(self, values: Values) -> tuple[msgspec.Struct | None, tuple[str, ...]]:
        """The struct made of those values that fit, and a sentence for each that does not."""
        if self.section.cluster is None:
            return None, tuple(f"{self.plugin}.{name} is set, but is not a setting" for name in values)
        fitting, problems = self._fitting(values)
        try:
            return self._calls.load(self.plugin, self._cluster_options, fitting), problems
        except PluginError as error:
            return self._defaults.cluster, (*problems, f"{self.plugin}: all its defaults are used: {error.problem}")

    def _cluster_options(self, fitting: Values) -> msgspec.Struct:
        assert self.section.cluster is not None
        return msgspec.convert(fitting, self.section.cluster)

    def _fitting(self, values: Values) -> tuple[dict[str, Any], tuple[str, ...]]:
        assert self.section.cluster is not None
        fields = {field.encode_name: field for field in msgspec.structs.fields(self.section.cluster)}
        fitting: dict[str, Any] = {}
        problems: list[str] = []
        for name, value in values.items():
            if name not in fields:
                problems.append(f"{self.plugin}.{name} is set, but is not a setting")
                continue
            try:
                read_strictly(value, fields[name].type, f"{self.plugin}.{name}")
            except InvalidInput as error:
                problems.append(f"{error.sentence()}; the default is used")
            else:
                fitting[name] = value
        return fitting, tuple(problems)


# ------------------------------------------------------------------------------------------ all plugins


class PluginConfigurations:
    """The options of all loaded plugins that have any, by plugin."""

    def __init__(self, configurations: Mapping[str, PluginConfiguration]) -> None:
        self.by_plugin = MappingProxyType(dict(configurations))

    def options(self, plugin: str, settings: Settings) -> PluginOptions:
        """What a plugin gets to see under these settings."""
        found = self.by_plugin.get(plugin)
        return NO_OPTIONS if found is None else found.options(settings)

    def values(self, settings: Settings) -> dict[str, dict[str, Any]]:
        """All cluster options by plugin and name: defaults, what is set, and what is set of plugins unknown here."""
        shown = {name: one.values(settings) for name, one in self.by_plugin.items()}
        shown = {**{name: dict(values) for name, values in settings.plugins.items()}, **shown}
        return {name: shown[name] for name in sorted(shown) if shown[name]}

    def problems(self, settings: Settings) -> tuple[str, ...]:
        """A sentence for each value in the cluster that no plugin of this process can use."""
        found: list[str] = []
        for name, values in sorted(settings.plugins.items()):
            known = self.by_plugin.get(name)
            if known is not None:
                found += known.problems(settings)
            elif values:
                found.append(f"settings of the plugin {name} are set, but it is not loaded here: {', '.join(values)}")
        return tuple(found)

    def changed(self, settings: Settings, patch: Mapping[str, Values]) -> dict[str, dict[str, Any]]:
        """What is set, with the patch by plugin. Raises `InvalidInput` naming what is unknown or does not fit."""
        wanted = {name: dict(values) for name, values in settings.plugins.items()}
        for plugin, changes in patch.items():
            known = self.by_plugin.get(plugin) or PluginConfiguration(plugin, ConfigSection())
            values = wanted.get(plugin, {})
            if plugin not in self.by_plugin and not set(changes) <= set(values):
                raise self._unknown(plugin, changes)
            wanted[plugin] = known.changed(values, changes)
        return {plugin: values for plugin, values in wanted.items() if values}

    def _unknown(self, plugin: str, changes: Values) -> InvalidInput:
        settable = [name for name, one in self.by_plugin.items() if one.section.cluster is not None]
        path = f"{plugin}.{next(iter(changes), '')}".rstrip(".")
        return unknown_key(path, plugin, settable, f"no plugin {plugin} with settings is loaded here")


def _as_stored(value: object) -> Any:
    """A value as it comes back from the store."""
    return msgspec.json.decode(msgspec.json.encode(value))


def settings_for_plugins(settings: Settings) -> Settings:
    """The settings as plugins see them: without one another's."""
    return msgspec.structs.replace(settings, plugins={})
