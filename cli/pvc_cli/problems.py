# SPDX-License-Identifier: Apache-2.0
"""problems: what can go wrong between the command line and the API, and the exit status and JSON of any error.

An API's problem+json comes back as one `ApiProblem` with every field it had, so that `-o json` can hand it on
unchanged and the sentence on stderr is the API's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pvc_cli.exit_codes import FAILED, UNAVAILABLE, exit_code_of_problem
from pvc_core.errors import DeadlineExceeded, ErrorMeaning, PvcError, meaning_of


@dataclass(eq=False)
class ApiProblem(PvcError):
    """The API answered with an error. `document` is the problem as it came, `hint` what the person can do."""

    status: int
    code: str
    detail: str
    document: Mapping[str, object] = field(default_factory=dict)
    hint: str = ""

    def sentence(self) -> str:
        return f"{self.detail}; {self.hint}" if self.hint else self.detail


@dataclass(eq=False)
class ApiUnreachable(PvcError):
    """Nothing answered at `where`, or what answered was not the API."""

    where: str
    problem: str

    def sentence(self) -> str:
        return f"the API at {self.where} cannot be reached: {self.problem}"


@dataclass(eq=False)
class NoConnection(PvcError):
    """There is no connection, and no readable configuration that would make this machine part of a cluster."""

    configuration: str

    def sentence(self) -> str:
        return (
            f"no connection to a cluster, and no readable {self.configuration} on this machine: "
            "add one with `pvc connection add NAME https://HOST:7370`, or set PVC_API_URL and PVC_API_TOKEN"
        )


@dataclass(eq=False)
class EndedOtherwise(PvcError):
    """What was waited for came to another end than the one asked for."""

    subject: str
    wanted: str
    ended: str
    reason: str = ""

    def sentence(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"{self.subject} should be {self.wanted} but is {self.ended}{why}"


@dataclass(eq=False)
class WaitedTooLong(DeadlineExceeded):
    """The time given by --timeout is over; `watch` is the command that shows how it goes on."""

    watch: str = ""

    def sentence(self) -> str:
        return f"{super().sentence()}; it goes on, see `{self.watch}`"


@dataclass(eq=False)
class Declined(PvcError):
    """The person answered no."""

    def sentence(self) -> str:
        return "nothing was changed"


CLI_MEANINGS: dict[type[PvcError], ErrorMeaning] = {
    ApiUnreachable: ErrorMeaning("api_unreachable", 0, UNAVAILABLE),
    NoConnection: ErrorMeaning("no_connection", 0, UNAVAILABLE),
    EndedOtherwise: ErrorMeaning("ended_otherwise", 0, FAILED),
    Declined: ErrorMeaning("declined", 0, FAILED),
}


def exit_code_of(error: PvcError) -> int:
    """The exit status that says what kind of error this was."""
    if isinstance(error, ApiProblem):
        return exit_code_of_problem(error.code, error.status)
    return _meaning(error).exit_code


def as_document(error: PvcError) -> dict[str, object]:
    """The error as problem+json has it: `code`, `detail` and the error's own fields."""
    if isinstance(error, ApiProblem):
        return {"code": error.code, "status": error.status, "detail": error.detail, **error.document}
    return {"code": _meaning(error).code, "detail": error.sentence(), **error.details()}


def _meaning(error: PvcError) -> ErrorMeaning:
    return CLI_MEANINGS.get(type(error)) or meaning_of(error)
