# SPDX-License-Identifier: Apache-2.0
"""invocation: what a plugin's command of `pvc` is given as its object: the API to ask and the ways to answer a person.

    @click.pass_obj
    def pools(invocation: Invocation) -> None:
        document = invocation.api.get("storage", "acme", "pool")
        ...

Such a command needs nothing of the CLI's own modules, and looks like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol


class Answered(Protocol):
    """What the API said."""

    @property
    def document(self) -> Any:
        """Its JSON document."""


class AskedApi(Protocol):
    """The API below /api/v1. Its problems are raised as the errors that they were, and end the command."""

    def get(self, *path: str) -> Any:
        """The document at a path, segment by segment."""

    def post(self, *path: str, body: Mapping[str, object]) -> Answered:
        """What is answered to a body."""

    def request(self, method: str, *path: str, parameters: Mapping[str, str] | None = None) -> Answered:
        """As `post`, by any method. parameters: the query."""


class ShownTable(Protocol):
    """Rows below a header, as wide as their content; on a narrow terminal the columns that may fold do."""

    def add(self, *cells: str) -> None:
        """One more row, a cell for every column."""


class Invocation(Protocol):
    """One run of a command. Whoever runs it may say `-o json`, also behind the command's own words."""

    @property
    def api(self) -> AskedApi:
        """Opened at its first use."""

    def show(
        self, document: object, people: Callable[[], Any], names: Callable[[], Iterable[str]] | None = None
    ) -> None:
        """Print an answer: the document as JSON or YAML, bare names, or what people get to see.

        people: makes a text, a table, or a list of both. names: None where nothing is listed.
        """

    def table(self, columns: Sequence[str], right: Sequence[str] = (), folding: Sequence[str] = ()) -> ShownTable:
        """An empty table. right: columns of numbers; folding: those that may take several lines."""

    def facts(self, facts: Mapping[str, str]) -> ShownTable:
        """Labels and what they say, a fact a line."""

    def confirm(self, question: str, yes: bool, command: str) -> None:
        """Ask before what cannot be brought back, unless `yes`; ends the command when the answer is no."""
