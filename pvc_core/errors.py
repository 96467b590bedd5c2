# SPDX-License-Identifier: Apache-2.0
"""Every error PVC raises on purpose, on one screen, and what each means to HTTP and to a shell.

An error carries fields, not a formatted sentence: the API turns them into problem+json, the CLI into a
line for a person, and a test asserts on them. "No" as an ordinary answer is never an exception here
(see `pvc_core.plugin_types.Rejection`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

NAMED_IN_A_SENTENCE = 3


@dataclass(eq=False)
class PvcError(Exception):
    """The root: catch this and nothing wider."""

    def __str__(self) -> str:
        return self.sentence()

    def sentence(self) -> str:
        """One sentence for a person."""
        return type(self).__name__

    def details(self) -> dict[str, object]:
        """The error's fields by name, ready for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(eq=False)
class InvalidInput(PvcError):
    """`field` cannot be `value`; `allowed` lists or describes what would be accepted."""

    field: str
    problem: str
    value: str = ""
    allowed: Sequence[str] = ()

    def sentence(self) -> str:
        known = f" (allowed: {', '.join(self.allowed)})" if self.allowed else ""
        got = f" {self.value!r}" if self.value else ""
        return f"{self.field}{got}: {self.problem}{known}"


@dataclass(eq=False)
class NotFound(PvcError):
    """There is no `kind` ("VM", "node", "token", "plugin") called `name`."""

    kind: str
    name: str
    known: Sequence[str] = ()

    def sentence(self) -> str:
        known = f" (known: {', '.join(self.known)})" if self.known else ""
        return f"no {self.kind} is called {self.name!r}{known}"


@dataclass(eq=False)
class AlreadyExists(PvcError):
    """A `kind` with this `name` (or UUID) is there already."""

    kind: str
    name: str

    def sentence(self) -> str:
        return f"a {self.kind} {self.name!r} exists already"


@dataclass(eq=False)
class Refused(PvcError):
    """The command makes sense but not now: `subject` is in a state that does not allow it."""

    subject: str
    reason: str

    def sentence(self) -> str:
        return f"{self.subject}: {self.reason}"


@dataclass(eq=False)
class PlanOutdated(PvcError):
    """A plan is to be applied to a cluster that has changed since it was made. `changes`: a sentence for each thing."""

    changes: Sequence[str]

    def sentence(self) -> str:
        return f"the plan does not hold any more, make it again: {'; '.join(self.changes)}"


@dataclass(eq=False)
class NoCandidate(PvcError):
    """No node may take the VM. `rejections` holds a sentence per node."""

    vm: str
    rejections: Sequence[str]

    def sentence(self) -> str:
        return f"no node can take {self.vm}: {'; '.join(self.rejections) or 'the cluster has no node'}"


@dataclass(eq=False)
class NotAdmitted(PvcError):
    """With the VM on `node`, the loss of a node would not be survived any more, and `admission` is `refuse`.

    losses: by lost node, the VMs that would not come back and now would. elsewhere: a node where the VM would be
    admitted; "" when none was found.
    """

    vm: str
    node: str
    losses: Mapping[str, Sequence[str]]
    elsewhere: str = ""

    def sentence(self) -> str:
        lost = "; ".join(f"if {node} were lost, {_few(vms)} would not come back" for node, vms in self.losses.items())
        advice = "stop VMs, or add memory or a node; see `pvc cluster capacity`"
        return (
            f"{self.vm} is not admitted on {self.node}: {lost}; "
            f"{f'it would be admitted on {self.elsewhere}' if self.elsewhere else advice}"
        )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_IN_A_SENTENCE} more" if len(names) > NAMED_IN_A_SENTENCE else ""
    return ", ".join(names[:NAMED_IN_A_SENTENCE]) + more


@dataclass(eq=False)
class BrokenRecord(PvcError):
    """The record under `key` does not parse; it is shown and left alone."""

    key: str
    problem: str

    def sentence(self) -> str:
        return f"the record {self.key} does not parse: {self.problem}"


@dataclass(eq=False)
class Conflict(PvcError):
    """Somebody changed `key` since it was read. Nothing was written: read again and decide again."""

    key: str
    problem: str = "changed since it was read"

    def sentence(self) -> str:
        return f"{self.key} {self.problem}"


@dataclass(eq=False)
class StoreUnavailable(PvcError):
    """The store did not answer, or this client's session is not connected."""

    problem: str

    def sentence(self) -> str:
        return f"the cluster's store is not available: {self.problem}"


@dataclass(eq=False)
class StorageUnavailable(PvcError):
    """A storage backend did not get an answer from its storage in time, or cannot ask it from this host."""

    backend: str
    problem: str

    def sentence(self) -> str:
        return f"the storage {self.backend} is not available: {self.problem}"


@dataclass(eq=False)
class TooLarge(PvcError):
    """A value or transaction over the limit, refused before it was sent."""

    subject: str
    size_bytes: int
    limit_bytes: int

    def sentence(self) -> str:
        return f"{self.subject} has {self.size_bytes} bytes, the limit is {self.limit_bytes}"


@dataclass(eq=False)
class HypervisorError(PvcError):
    """The hypervisor refused or failed; `reason` is its own text. `connection_lost` when it did not answer."""

    reason: str
    connection_lost: bool = False

    def sentence(self) -> str:
        return self.reason


@dataclass(eq=False)
class WatchdogError(PvcError):
    """This host's watchdog cannot be used: the node does not fence itself, or cannot leave off doing so."""

    problem: str

    def sentence(self) -> str:
        return f"the watchdog: {self.problem}"


@dataclass(eq=False)
class PluginError(PvcError):
    """A plugin raised, hung or returned nonsense."""

    plugin: str
    problem: str

    def sentence(self) -> str:
        return f"plugin {self.plugin}: {self.problem}"


@dataclass(eq=False)
class PluginLeftOut(PluginError):
    """A plugin was not asked: it failed several times in a row, and the pause before it is tried again is not over."""


@dataclass(eq=False)
class Unauthenticated(PvcError):
    """No token, or one that is unknown or expired."""

    def sentence(self) -> str:
        return "a valid bearer token is required"


@dataclass(eq=False)
class Forbidden(PvcError):
    """The token's role does not allow this."""

    role: str
    needed: str

    def sentence(self) -> str:
        return f"this needs the role {self.needed}; the token has {self.role}"


@dataclass(eq=False)
class DeadlineExceeded(PvcError):
    """What was waited for did not happen in time; it may still happen."""

    waited_for: str
    waited_s: float

    def sentence(self) -> str:
        return f"still waiting for {self.waited_for} after {self.waited_s:g} s"


@dataclass(frozen=True)
class ErrorMeaning:
    """What an error is called in problem+json, and its HTTP status and CLI exit code."""

    code: str
    http_status: int
    exit_code: int


MEANINGS: dict[type[PvcError], ErrorMeaning] = {
    PvcError: ErrorMeaning("internal", 500, 1),
    InvalidInput: ErrorMeaning("invalid_input", 422, 2),
    NotFound: ErrorMeaning("not_found", 404, 4),
    AlreadyExists: ErrorMeaning("already_exists", 409, 5),
    Refused: ErrorMeaning("refused", 409, 5),
    PlanOutdated: ErrorMeaning("plan_outdated", 409, 5),
    NoCandidate: ErrorMeaning("no_candidate", 409, 6),
    NotAdmitted: ErrorMeaning("not_admitted", 409, 11),
    BrokenRecord: ErrorMeaning("broken_record", 409, 5),
    Conflict: ErrorMeaning("conflict", 409, 5),
    StoreUnavailable: ErrorMeaning("store_unavailable", 503, 7),
    StorageUnavailable: ErrorMeaning("storage_unavailable", 503, 7),
    TooLarge: ErrorMeaning("too_large", 413, 2),
    HypervisorError: ErrorMeaning("hypervisor_error", 502, 1),
    PluginError: ErrorMeaning("plugin_error", 500, 1),
    Unauthenticated: ErrorMeaning("unauthenticated", 401, 8),
    Forbidden: ErrorMeaning("forbidden", 403, 8),
    DeadlineExceeded: ErrorMeaning("deadline_exceeded", 504, 9),
}


def meaning_of(error: PvcError) -> ErrorMeaning:
    """The most specific entry of `MEANINGS` for an error."""
    for kind in type(error).__mro__:
        if kind in MEANINGS:
            return MEANINGS[kind]
    return MEANINGS[PvcError]
