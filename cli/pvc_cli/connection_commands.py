# SPDX-License-Identifier: Apache-2.0
"""connection_commands: `pvc connection`: which clusters this user can speak to. Nothing here needs a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pvc_cli.connections import (
    LOCAL,
    Connection,
    Connections,
    checked_url,
    connections_path,
    load_connections,
    save_connections,
)
from pvc_cli.lazy import LazyGroup
from pvc_cli.output import emit, say
from pvc_cli.references import ConnectionReference
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Table
from pvc_cli.words import NOTHING, yes_no
from pvc_core.errors import InvalidInput


@click.group(cls=LazyGroup)
def connection() -> None:
    """Clusters to speak to: where their API is, and the token."""


@connection.command("add")
@click.argument("name")
@click.argument("url")
@click.option(
    "--token-file",
    metavar="FILE",
    show_default=False,
    help="File that holds the token, `-` for stdin.  [default: $PVC_API_TOKEN, or ask on a terminal]",
)
@click.option("--ca", metavar="FILE", help="Certificate authorities to trust, in PEM.  [default: the system's]")
@click.option("--insecure", is_flag=True, help="Accept plain HTTP to another machine: the token is sent in the clear.")
@click.option("--use/--no-use", default=False, help="Use it from now on; the first connection is used in any case.")
@pass_session
def add(
    session: Session, name: str, url: str, token_file: str | None, ca: str | None, insecure: bool, use: bool
) -> None:
    """Add a connection called NAME to the API at URL.

    URL is https://HOST:7370; without a scheme it is HTTPS. Plain HTTP is accepted to this machine only. The file with
    the connections holds their tokens and can be read by you alone.
    """
    path = connections_path(session.environment)
    url = checked_url(url, insecure)
    ca_path = str(_readable(ca)) if ca else ""
    connections = load_connections(path)
    connections.with_added(Connection(name, url))  # refuses a name before a token is asked for
    added = Connection(name, url, _token(session, token_file), ca_path, insecure)
    connections = connections.with_added(added)
    if use:
        connections = connections.using(name)
    save_connections(path, connections)
    say(f"connection {name} to {url} added" + (", in use from now on" if connections.current == name else ""))


@connection.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """List the connections; tokens are not shown."""
    connections = load_connections(connections_path(session.environment))
    items = [_shown(entry, connections) for _, entry in sorted(connections.by_name.items())]

    def people() -> Table:
        table = Table(("used", "name", "url", "token", "ca"), folding=("url", "ca"))
        for item in items:
            used, token = "*" if item["current"] else NOTHING, yes_no(bool(item["has_token"]))
            table.add(used, str(item["name"]), str(item["url"]), token, str(item["ca"]) or NOTHING)
        return table

    none = "no connections; add one with `pvc connection add NAME URL`"
    emit(session.output, {"connections": items}, people if items else lambda: none, lambda: sorted(connections.by_name))


@connection.command("remove")
@click.argument("name", type=ConnectionReference())
@pass_session
def remove(session: Session, name: str) -> None:
    """Forget the connection NAME and its token. The token stays valid: see `pvc token revoke`."""
    path = connections_path(session.environment)
    save_connections(path, load_connections(path).without(name))
    say(f"connection {name} removed")


@connection.command("use")
@click.argument("name", type=ConnectionReference())
@pass_session
def use_(session: Session, name: str) -> None:
    """Use the connection NAME from now on.

    `local` is this machine itself, for cluster nodes.
    """
    path = connections_path(session.environment)
    save_connections(path, load_connections(path).using(name))
    say(f"{'this machine itself' if name == LOCAL else f'connection {name}'} is used from now on")


def _token(session: Session, token_file: str | None) -> str:
    """The token from a file, the environment or the person; never from the command line, which others can see."""
    if token_file == "-":
        token = sys.stdin.read()
    elif token_file:
        token = _readable(token_file, "token-file").read_text(encoding="utf-8")
    elif session.environment.get("PVC_API_TOKEN"):
        token = session.environment["PVC_API_TOKEN"]
    elif sys.stdin.isatty():
        token = str(click.prompt("Token (empty for none)", hide_input=True, default="", show_default=False, err=True))
    else:
        token = ""
    token = token.strip()
    if len(token.split()) > 1 or not token.isascii():
        raise InvalidInput("token", "must be one word")
    return token


def _readable(name: str, field: str = "ca") -> Path:
    path = Path(name).expanduser().absolute()
    try:
        path.open("rb").close()
    except OSError as error:
        raise InvalidInput(field, f"cannot be read: {error.strerror}", name) from error
    return path


def _shown(entry: Connection, connections: Connections) -> dict[str, object]:
    return {
        "name": entry.name,
        "url": entry.url,
        "current": entry.name == connections.current,
        "has_token": bool(entry.token),
        "ca": entry.ca,
        "insecure": entry.insecure,
    }
