# SPDX-License-Identifier: Apache-2.0
"""A third party's plugin with options of both kinds, as tests of options need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from pvc_core import ConfigSection, NodeCapacity, PlacementRequest, PluginOptions, SelectorEntry, hookimpl


class Inner(msgspec.Struct, frozen=True):
    path: str
    """Where the scores are read from."""
    patience_s: float = 1.0
    """How long to wait for them."""


class Machine(msgspec.Struct, frozen=True):
    password: str = ""
    """Of Acme's service."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 80
    """Of Acme's service."""
    sources: dict[str, Inner] = {}
    """Further selectors, by name."""


class Cluster(msgspec.Struct, frozen=True):
    weight: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.0
    """How much a core counts against a GiB of free memory."""
    racks: tuple[str, ...] = ()
    """Racks to prefer."""
    order: Literal["up", "down"] = "up"
    """Whether more cores are better."""
    strict: bool = False
    """Needs racks to be set."""

    def __post_init__(self) -> None:
        if self.strict and not self.racks:
            raise ValueError("strict needs racks")


class Cores:
    def __init__(self, seen: list[PluginOptions]) -> None:
        self._seen = seen

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        self._seen.append(request.options)
        return {node.name: node.cores * request.options.cluster.weight + node.free_mib / 1024 for node in candidates}


class Acme:
    """Acme: cores against memory."""

    def __init__(self) -> None:
        self.seen: list[PluginOptions] = []
        """The options of every call, registration first."""

    @hookimpl
    def pvc_config_section(self) -> ConfigSection:
        return ConfigSection(machine=Machine, cluster=Cluster)

    @hookimpl
    def pvc_selectors(self, options: PluginOptions) -> Sequence[SelectorEntry]:
        self.seen.append(options)
        names = ["acme", *options.machine.sources]
        return [SelectorEntry(name, "the most cores and memory", Cores(self.seen)) for name in names]
