# SPDX-License-Identifier: Apache-2.0
"""configuration: the one TOML file that the node daemon, the API and the CLI read.

What concerns the whole cluster is not here but in the store (`pvc cluster settings`); this file says how this
machine takes part. What it says to plugins, `[plugin.<name>]`, is not judged here: a mistake there costs that plugin,
and not the daemon that keeps this machine's VMs running.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from pvc_core.errors import InvalidInput
from pvc_core.model import Name
from pvc_core.strict_reading import read_strictly

DEFAULT_PATH = Path("/etc/pvc/pvc.toml")


class ClusterSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[cluster]: which cluster this machine belongs to."""

    store: str
    """URL of the store: zookeeper://host1,host2,host3/chroot or sqlite:///path."""


class NodeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[node]: the node daemon of this machine."""

    name: Name = ""
    """The node's name; empty: the host name up to the first dot."""
    hypervisor: str = "qemu:///system"
    """URL of the hypervisor: a libvirt URI, or simulated:///path."""
    address: str = ""
    """Where the other nodes' hypervisors reach this one; empty: the node's name."""
    coordinator: bool = True
    """Whether this node takes part in the election of the leader."""
    labels: dict[str, str] = {}
    on_shutdown: Literal["leave", "flush", "shutdown"] = "leave"
    """What the daemon does first when its host goes down: nothing, drain the node, or shut its guests down."""
    on_shutdown_deadline_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 300.0
    """How long that may take."""


class WatchdogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[watchdog]: whether this node ends itself when it has lost the store, so that its VMs may start elsewhere."""

    driver: Literal["", "device", "process"] = ""
    """Empty: it does not. device: the kernel's watchdog. process: for labs and tests, a process that runs `command`."""
    device: str = "/dev/watchdog"
    """Of the driver device."""
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=600)] = 15.0
    """So long after the store has last answered, the host is reset."""
    command: tuple[str, ...] = ()
    """Of the driver process: what ends the host."""


class ApiSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[api]: the HTTP API, where this machine serves it."""

    listen: str = "127.0.0.1:7370"
    workers: int = 2
    threads: int = 8
    tls_certificate: str = ""
    tls_key: str = ""
    insecure: bool = False
    """Serve without TLS on an address that is not loopback."""


class PluginsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[plugins]: which plugins are not loaded on this machine."""

    blocked: tuple[str, ...] = ()


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[log]: how this machine's daemons log."""

    format: Literal["json", "console"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    cluster: ClusterSection
    node: NodeSection = NodeSection()
    watchdog: WatchdogSection = WatchdogSection()
    api: ApiSection = ApiSection()
    plugins: PluginsSection = PluginsSection()
    log: LogSection = LogSection()
    plugin: dict[str, Any] = {}
    """What is configured for each plugin, by its name; given to `Registry.load`."""

    @property
    def node_name(self) -> str:
        """The node's name, the host name's first part when none is configured."""
        return self.node.name or os.uname().nodename.split(".")[0]


def configuration_path(path: str | None = None) -> Path:
    """Where the file is: the argument, $PVC_CONFIG, or /etc/pvc/pvc.toml."""
    return Path(path or os.environ.get("PVC_CONFIG") or DEFAULT_PATH)


def load_configuration(path: str | None = None) -> Configuration:
    """Read and check the file. Raises `InvalidInput` naming the file and the field."""
    file = configuration_path(path)
    try:
        raw = tomllib.loads(file.read_text())
    except FileNotFoundError as error:
        raise InvalidInput("configuration", "there is no such file", str(file)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("configuration", f"cannot be read: {error}", str(file)) from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("configuration", f"is not TOML: {error}", str(file)) from error
    where = f"configuration {file}: "
    plugins = raw.get("plugins")
    for name, value in plugins.items() if isinstance(plugins, dict) else ():
        if isinstance(value, dict):
            raise InvalidInput(f"{where}plugins.{name}", f"is not a key of this; is [plugin.{name}] meant?")
    return read_strictly(raw, Configuration, where)
