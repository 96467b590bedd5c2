# SPDX-License-Identifier: Apache-2.0
"""contributions: what a plugin adds to `pvc` and to the API: commands and resources, as typed entries.

The core knows neither of the libraries that serve them: an entry names a command to import or holds a function that
builds a resource, and the applications put it where it belongs. What is there already is never replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from pvc_core.errors import Refused
from pvc_core.plugin_types import PluginOptions
from pvc_core.ports import ClusterStore
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.task_entries import NodeTask
from pvc_core.task_records import TaskView

Access = Literal["viewer", "operator", "admin"]
F = TypeVar("F", bound=Callable[..., Any])

OCTETS = "application/octet-stream"
"""The media type of bodies and answers that are streams of bytes."""
METHOD_ATTRIBUTE = "pvc_api_method"
"""Where `api_method` notes what a method of a resource declares."""

_WORD = re.compile(r"[a-z][a-z0-9-]{0,31}")
_SEGMENT = re.compile(r"[a-z][a-z0-9-]{0,63}|\{[a-z][a-z0-9_]{0,31}\}")
_FIELD = re.compile(r"\{[^}]*\}")
_ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class CliCommand:
    """A command or group of commands of `pvc`, shown below a group that exists or one made for it.

    path: its words after `pvc`, such as ("storage", "acme"). load: "module:attribute" or a function without arguments;
    either leads to a click command, and is not touched before somebody runs it. summary: its line in the help.
    """

    path: tuple[str, ...]
    load: str | Callable[[], object]
    summary: str
    plugin: str = ""

    @property
    def name(self) -> str:
        """As people type it, without `pvc`."""
        return " ".join(self.path)

    def problem(self) -> str:
        """Why it cannot be used; "" when it can."""
        if not isinstance(self.path, tuple) or not 1 <= len(self.path) <= 5:
            return "its path must be a tuple of one to five words"
        if not all(isinstance(word, str) and _WORD.fullmatch(word) for word in self.path):
            return "the words of its path must be lower-case letters, digits and hyphens"
        if not callable(self.load) and not (isinstance(self.load, str) and _ATTRIBUTE.fullmatch(self.load)):
            return "load must be 'module:attribute' or a function"
        return ""


class ApiBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's JSON body. Unknown fields are refused."""


class ApiQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's query string. Unknown parameters are refused."""


class ApiStream(Protocol):
    """A request's body of bytes, however many, which is read as it comes. length_bytes: None when nobody said."""

    @property
    def length_bytes(self) -> int | None: ...

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at its end. Raises `PvcError` when it breaks off before that."""


def _nobody_takes_it(task: NodeTask) -> TaskView:
    raise Refused(task.node, "there is no cluster behind this site")


def _nobody_answers(task: NodeTask, timeout_s: float) -> Mapping[str, Any]:
    raise Refused(task.node, "there is no cluster behind this site")


@dataclass(frozen=True)
class ApiSite:
    """What a resource is built from: the cluster as seen from one API process.

    snapshot: the cluster now, without a request to the store; raises `StoreUnavailable`. options: the plugin's own, as
    configured now. store: for the plugin's own keys.
    """

    snapshot: Callable[[], ClusterSnapshot]
    options: Callable[[], PluginOptions]
    store: ClusterStore
    give_task: Callable[[NodeTask], TaskView] = _nobody_takes_it
    """Hands a task of the plugin to a node; see `answer_task`. Raises `NotFound`, `InvalidInput`, `Refused`."""
    ask_node: Callable[[NodeTask, float], Mapping[str, Any]] = _nobody_answers
    """Has a node carry out a task of the plugin that changes nothing, and returns its result, waiting so many seconds.

    There are no events of it, and it stays nowhere. Raises as `give_task`, `Refused` with the reason when it has
    failed or its node's daemon goes away, and `DeadlineExceeded`.
    """


@dataclass(frozen=True)
class ApiResource:
    """A resource of the API at /api/v1 + `template`, such as "/storage/acme" or "/storage/acme/{pool}".

    build: called once per API process; what it returns has the methods `on_get`, `on_post`, `on_put`, `on_patch` and
    `on_delete` that it serves, as falcon calls them: (req, resp, and the template's fields by name). `api_method` says
    who may use one and what it takes and answers; without it only an admin may. summary: what it is, for people.
    """

    template: str
    build: Callable[[ApiSite], object]
    summary: str
    plugin: str = ""

    @property
    def name(self) -> str:
        """Its template."""
        return self.template

    def problem(self) -> str:
        """Why it cannot be used; "" when it can."""
        root, *segments = str(self.template).split("/")
        if root or not segments or not all(_SEGMENT.fullmatch(segment) for segment in segments):
            return "its template must be like /storage/acme/{pool}, in lower case"
        return "" if callable(self.build) else "build must be a function"


@dataclass(frozen=True)
class ApiMethod:
    """What a method of a contributed resource declares."""

    access: Access = "admin"
    answers: Mapping[int, type[msgspec.Struct]] = field(default_factory=dict)
    body: type[ApiBody] | None = None
    query: type[ApiQuery] | None = None
    problems: tuple[int, ...] = ()
    takes_stream: bool = False
    gives_stream: bool = False


def api_method(
    access: Access,
    answer: type[msgspec.Struct] | None,
    *,
    status: int = 200,
    body: type[ApiBody] | None = None,
    takes_stream: bool = False,
    query: type[ApiQuery] | None = None,
    problems: tuple[int, ...] = (),
) -> Callable[[F], F]:
    """Declare a method of a contributed resource; its docstring is its documentation in OpenAPI.

    access: the least role that may use it. answer: what it sets `resp.media` to; anything else is an error of the
    plugin. None: bytes, for which it sets `resp.stream` to an iterator that is closed in the end, and
    `resp.content_length`. body, query: what it takes, checked before it is called, then in `req.context.json` and
    `req.context.query`. takes_stream: its body is bytes without a limit, an `ApiStream` in `req.context.body`.
    problems: further statuses that it may answer with as problems, such as 404.
    """

    def declare(method: F) -> F:
        answers = {} if answer is None else {status: answer}
        declared = ApiMethod(access, answers, body, query, problems, takes_stream, answer is None)
        setattr(method, METHOD_ATTRIBUTE, declared)
        return method

    return declare


def answer_task(resp: Any, task: TaskView) -> None:
    """Answer a request with a task that was given for it: status 202, the task, and where to look how far it is.

    The method declares it as `api_method(..., TaskView, status=202)`.
    """
    resp.status = 202
    resp.media = task
    resp.set_header("Location", task.watch)


def declared_by(method: object) -> ApiMethod | None:
    """What `api_method` noted, or None."""
    declared = getattr(method, METHOD_ATTRIBUTE, None)
    return declared if isinstance(declared, ApiMethod) else None


def is_same(one: str, other: str) -> bool:
    """Whether two templates differ in nothing but the names of their fields."""
    return _FIELD.sub("{}", one) == _FIELD.sub("{}", other)


def overlap(one: str, other: str) -> bool:
    """Whether some path matches both templates, so that one of them would take requests from the other."""
    left, right = one.split("/"), other.split("/")
    if len(left) != len(right):
        return False
    return all(a == b or "{" in a or "{" in b for a, b in zip(left, right, strict=True))
