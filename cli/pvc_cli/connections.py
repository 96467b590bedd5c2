# SPDX-License-Identifier: Apache-2.0
"""connections: which API the command speaks to: the environment, a named connection, or this machine itself.

A connection holds a token, so its file is readable by its owner only and is written whole or not at all.
Tokens travel over HTTPS; plain HTTP is accepted to this machine, to others only when that was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pvc_core.errors import AlreadyExists, InvalidInput, NotFound

LOCAL = "local"
"""The name that always means this machine's own application, without HTTP."""
_FIELDS = ("url", "token", "ca", "insecure")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Connection:
    """Where an API is and how to be let in.

    ca: file with the certificate authorities to trust instead of the system's. insecure: plain HTTP is accepted to
    another machine too; certificates of HTTPS are verified in any case.
    """

    name: str
    url: str
    token: str = field(default="", repr=False)
    ca: str = ""
    insecure: bool = False

    @property
    def is_loopback(self) -> bool:
        """The API is on this machine."""
        return urlsplit(self.url).hostname in _LOOPBACK


@dataclass(frozen=True)
class Connections:
    """What the file holds: connections by name, and the name of the one in use ("" = none)."""

    by_name: Mapping[str, Connection] = field(default_factory=dict)
    current: str = ""

    def get(self, name: str) -> Connection:
        """The connection with this name. Raises `NotFound` with the known names."""
        if name not in self.by_name:
            raise NotFound("connection", name, tuple(sorted(self.by_name)))
        return self.by_name[name]

    def with_added(self, connection: Connection) -> Connections:
        """With one more connection; the first one is used at once."""
        if connection.name == LOCAL:
            raise InvalidInput("name", "always means this machine itself", LOCAL)
        if connection.name in self.by_name:
            raise AlreadyExists("connection", connection.name)
        by_name = {**self.by_name, connection.name: connection}
        return Connections(by_name, self.current or connection.name)

    def without(self, name: str) -> Connections:
        """Without one; when it was in use, none is."""
        self.get(name)
        by_name = {other: connection for other, connection in self.by_name.items() if other != name}
        return Connections(by_name, "" if name == self.current else self.current)

    def using(self, name: str) -> Connections:
        """With another one in use; `local` uses this machine's own application again."""
        return replace(self, current="" if name == LOCAL else self.get(name).name)


def connections_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the connections are kept: under $XDG_CONFIG_HOME, or ~/.config."""
    base = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".config"
    return Path(base) / "pvc" / "connections.yaml"


def checked_url(url: str, insecure: bool, field_name: str = "url") -> str:
    """The URL with its scheme (https when it has none) and without a path. Raises `InvalidInput`."""
    full = url if "://" in url else f"https://{url}"
    try:
        parts = urlsplit(full)
        _ = parts.port
    except ValueError as error:
        raise InvalidInput(field_name, f"is not a URL: {error}", url) from error
    if parts.scheme not in ("http", "https"):
        raise InvalidInput(field_name, "must be https or http", url, ("https://HOST:7370",))
    if not parts.hostname or parts.query or parts.fragment or parts.username:
        raise InvalidInput(field_name, "must be a scheme, a host and a port", url, ("https://HOST:7370",))
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not insecure:
        raise InvalidInput(field_name, "would send the token in the clear; use https, or say --insecure", url)
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def load_connections(path: Path) -> Connections:
    """Read the file; none yet is no connections. Raises `InvalidInput` naming the file and what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Connections()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("connections", f"cannot be read: {error}", str(path)) from error
    from pvc_core.yaml_text import read_yaml

    document = read_yaml(text, "connections", str(path))
    document = {} if document is None else document
    entries = document.get("connections", {}) if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise InvalidInput("connections", "must hold a mapping `connections`", str(path))
    by_name = {str(name): _connection(str(name), entry, path) for name, entry in entries.items()}
    return Connections(by_name, str(document.get("current") or ""))


def save_connections(path: Path, connections: Connections) -> None:
    """Write the file, mode 0600, whole or not at all."""
    import yaml

    entries = {name: _entry(connection) for name, connection in sorted(connections.by_name.items())}
    text = yaml.safe_dump({"current": connections.current, "connections": entries}, sort_keys=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(path, text)
    except OSError as error:
        raise InvalidInput("connections", f"cannot be written: {error}", str(path)) from error


def from_environment(environment: Mapping[str, str]) -> Connection | None:
    """The connection that PVC_API_URL, PVC_API_TOKEN, PVC_API_CA and PVC_API_INSECURE describe, if any."""
    url = environment.get("PVC_API_URL", "")
    if not url:
        return None
    insecure = environment.get("PVC_API_INSECURE", "") not in ("", "0")
    return Connection(
        "environment",
        checked_url(url, insecure, "PVC_API_URL"),
        environment.get("PVC_API_TOKEN", ""),
        environment.get("PVC_API_CA", ""),
        insecure,
    )


def choose_connection(name: str, environment: Mapping[str, str]) -> Connection | None:
    """The connection to use; None means this machine's own application.

    `name` (from --connection) means exactly what the file says. Without it the environment wins over the file: its
    URL over the connection in use, its token over that connection's token.
    """
    if name == LOCAL:
        return None
    from_env = None if name else from_environment(environment)
    if from_env is not None:
        return from_env
    connections = load_connections(connections_path(environment))
    chosen = name or connections.current
    if not chosen:
        return None
    connection = connections.get(chosen)
    token = connection.token if name else environment.get("PVC_API_TOKEN") or connection.token
    return replace(connection, url=checked_url(connection.url, connection.insecure), token=token)


def _connection(name: str, entry: Any, path: Path) -> Connection:
    """One entry of the file, its types checked."""
    where = f"connections.{name}"
    if not isinstance(entry, dict) or not isinstance(entry.get("url"), str):
        raise InvalidInput(where, f"has no url in {path}", allowed=_FIELDS)
    unknown = sorted(str(key) for key in entry if key not in _FIELDS)
    if unknown:
        raise InvalidInput(f"{where}.{unknown[0]}", f"is not a field of a connection in {path}", allowed=_FIELDS)
    for key in ("token", "ca"):
        if not isinstance(entry.get(key, ""), str):
            raise InvalidInput(f"{where}.{key}", f"must be text in {path}")
    return Connection(name, entry["url"], entry.get("token", ""), entry.get("ca", ""), entry.get("insecure") is True)


def _entry(connection: Connection) -> dict[str, object]:
    """The fields of a connection that differ from their defaults, and its URL."""
    return {key: value for key, value in asdict(connection).items() if key == "url" or (value and key != "name")}


def _write_private(path: Path, text: str) -> None:
    """Replace the file by one that only its owner can read; mkstemp makes it 0600 from the start."""
    import tempfile

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
