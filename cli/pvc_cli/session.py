# SPDX-License-Identifier: Apache-2.0
"""session: what one invocation of `pvc` carries along: the form of its output, its connection, and the open API.

The API is opened when a command first needs it, so that help, completion scripts and the handling of connections
need neither a cluster nor the HTTP library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from pvc_cli.client import ANSWER_TIMEOUT_S, Api, open_local, open_remote
from pvc_cli.connections import choose_connection
from pvc_cli.output import Output, Shown, emit, warn
from pvc_cli.tables import Table, facts_table

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Session:
    """One invocation. Tests hand in one whose `opener` returns an API of their own."""

    output: Output = Output.TABLE
    connection: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    opener: Callable[[Session], Api] | None = None
    patience_s: float = ANSWER_TIMEOUT_S
    """How long to wait for an answer."""
    poll_s: float = 0.5
    """Pause between two looks at something that takes long, when the API does not hold its answer."""
    going_on: str = ""
    """What goes on in the cluster when the person interrupts now: a sentence."""
    plugin: str = ""
    """The plugin whose command runs."""
    _api: Api | None = None

    @property
    def api(self) -> Api:
        """The API, opened at the first use."""
        if self._api is None:
            self._api = (self.opener or _open)(self)
            self._api.on_notice = lambda notice: warn([notice])
        return self._api

    def show(
        self, document: object, people: Callable[[], Shown], names: Callable[[], Iterable[str]] | None = None
    ) -> None:
        """Print an answer of a plugin's command: see `pvc_core.invocation`."""
        emit(self.output, document, people, names)

    def table(self, columns: Sequence[str], right: Sequence[str] = (), folding: Sequence[str] = ()) -> Table:
        """An empty table: see `pvc_core.invocation`."""
        return Table(columns, right, folding)

    def facts(self, facts: Mapping[str, str]) -> Table:
        """Labels and what they say: see `pvc_core.invocation`."""
        return facts_table(facts)

    def confirm(self, question: str, yes: bool, command: str) -> None:
        """Ask before what cannot be brought back: see `pvc_core.invocation`."""
        from pvc_cli.definition_files import confirmed

        confirmed(question, yes, command)

    def follow_task(self, task: Any, timeout_s: float = 86_400) -> Any:
        """The task of a node that a plugin's resource has answered with, once it is done; its progress is shown.

        Raises a `PvcError` when it has failed, was called off, or takes longer.
        """
        from pvc_cli.task_following import follow_task

        return follow_task(self, task, timeout_s)

    def close(self) -> None:
        """Give back what was opened."""
        if self._api is not None:
            self._api.close()
            self._api = None


pass_session = click.make_pass_decorator(Session)


def output_option(command: F) -> F:
    """-o on a command; it wins over the one before the command's name."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice([form.value for form in Output]),
        callback=_remember_output,
        expose_value=False,
        is_eager=True,
        help="Form of the answer; `names` prints bare names where a list is shown.  [default: table]",
    )(command)


def _remember_output(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    session = context.find_object(Session)
    if value is not None and session is not None:
        session.output = Output(value)


def _open(session: Session) -> Api:
    connection = choose_connection(session.connection, session.environment)
    return open_local(session.environment) if connection is None else open_remote(connection, session.patience_s)
