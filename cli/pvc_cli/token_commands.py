# SPDX-License-Identifier: Apache-2.0
"""token_commands: `pvc token`: who may use the API. A secret is shown once, alone on stdout, and kept by nobody."""

from __future__ import annotations

import click

from pvc_cli.durations import Duration
from pvc_cli.lazy import LazyGroup
from pvc_cli.output import emit, note
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table
from pvc_cli.views import TokenView

ROLES = ("viewer", "operator", "admin")


@click.group(cls=LazyGroup)
def token() -> None:
    """Tokens: who may use the API over the network, and for what."""


@token.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="viewer",
    help="viewer looks, operator changes VMs and nodes, admin changes settings, rules and tokens too.",
)
@click.option(
    "--expires-in",
    "expires_in_s",
    metavar="DURATION",
    type=Duration(),
    help="For how long it is good, in s, m, h or d, such as 12h or 90d.  [default: until it is revoked]",
)
@output_option
@pass_session
def create(session: Session, name: str, role: str, expires_in_s: int | None) -> None:
    """Make a token called NAME and print its secret, once.

    The secret is alone on stdout: TOKEN=$(pvc token create backup)
    """
    body = {"name": name, "role": role, "expires_in_s": expires_in_s}
    document = session.api.post("token", body=body).document
    made: TokenView = document["token"]
    emit(session.output, document, lambda: str(document["secret"]), lambda: [made["name"]])
    until = f"until {made['expires_at']}" if made["expires_at"] else "until it is revoked"
    note(f"token {made['name']} ({made['role']}) is good {until}; its secret is shown this once")


@token.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """List the tokens; their secrets are kept by nobody."""
    document = session.api.get("token")
    tokens: list[TokenView] = document["tokens"]
    none = "no tokens; make one with `pvc token create NAME`"
    emit(session.output, document, lambda: _table(tokens) if tokens else none, lambda: [one["name"] for one in tokens])
    for broken in document["broken"]:
        note(f"the record {broken['key']} does not parse: {broken['problem']}")


@token.command()
@click.argument("name")
@output_option
@pass_session
def revoke(session: Session, name: str) -> None:
    """Revoke the token NAME: it is refused from now on."""
    document = session.api.request("DELETE", "token", name).document
    emit(session.output, document, lambda: f"token {name} is revoked", lambda: [name])


def _table(tokens: list[TokenView]) -> Table:
    table = Table(("name", "role", "created", "expires"))
    for one in tokens:
        expires = one["expires_at"] or "never"
        table.add(
            one["name"], one["role"], one["created_at"], Cell(f"{expires} (over)", "bad") if one["expired"] else expires
        )
    return table
