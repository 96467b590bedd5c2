# SPDX-License-Identifier: Apache-2.0
"""problems: every failure as application/problem+json with a stable code, whoever raised it.

Clients act on `code`, people read `detail`. What PVC did not expect becomes a 500 that carries the request's id,
under which the log has the traceback; the client never sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import falcon
import msgspec

from pvc_core.errors import MEANINGS, ErrorMeaning, PvcError, StoreUnavailable, Unauthenticated, meaning_of

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 2


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong (RFC 9457). The error's own fields stand beside these."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str = ""


RESERVED_FIELDS = frozenset(Problem.__struct_fields__)


@dataclass(eq=False)
class PreconditionFailed(PvcError):
    """`subject` is not in the version that If-Match names."""

    subject: str
    expected: str
    current: str

    def sentence(self) -> str:
        return f"{self.subject} is at version {self.current}, If-Match asks for {self.expected}"


@dataclass(eq=False)
class PluginBusy(PvcError):
    """As many requests as one plugin may have at a time are with it already."""

    plugin: str
    limit: int

    def sentence(self) -> str:
        return f"plugin {self.plugin} is busy with {self.limit} requests, which is all that it may have at a time"


@dataclass(eq=False)
class TooManyStreams(PvcError):
    """As many streams of this kind go through this process as it has threads for."""

    limit: int
    what: str = "readers follow the events"

    def sentence(self) -> str:
        return f"{self.limit} {self.what} here already, which is all that this process serves"


@dataclass(eq=False)
class BodyBrokenOff(PvcError):
    """A body that is read as it comes ended before its end. expected_bytes: None when nobody said."""

    received_bytes: int
    expected_bytes: int | None
    problem: str

    def sentence(self) -> str:
        whole = "" if self.expected_bytes is None else f" of {self.expected_bytes}"
        return (
            f"the body broke off after {self.received_bytes}{whole} bytes: {self.problem}; what it was to fill holds "
            "nothing that can be relied on until all of it has been sent"
        )


OWN_MEANINGS: Mapping[type[PvcError], ErrorMeaning] = {
    PreconditionFailed: ErrorMeaning("precondition_failed", 412, 5),
    PluginBusy: ErrorMeaning("plugin_busy", 503, 7),
    TooManyStreams: ErrorMeaning("too_many_streams", 503, 7),
    BodyBrokenOff: ErrorMeaning("body_broken_off", 400, 1),
}
"""Errors that only HTTP knows."""

HTTP_CODES: Mapping[int, str] = {
    400: "malformed_request",
    404: "no_such_route",
    405: "method_not_allowed",
    411: "length_required",
    413: "too_large",
    415: "unsupported_media_type",
    431: "malformed_request",
}
"""Codes of what the HTTP framework itself refuses, by status."""


def all_codes() -> Mapping[str, int]:
    """Every code an answer may carry, with its status."""
    own = {meaning.code: meaning.http_status for meaning in (*MEANINGS.values(), *OWN_MEANINGS.values())}
    return {**{code: status for status, code in sorted(HTTP_CODES.items(), reverse=True)}, **own}


def install_error_handlers(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Answer every exception that leaves a resource or a middleware with a problem."""
    app.add_error_handler(Exception, _answer_unexpected)
    app.add_error_handler(falcon.HTTPError, _answer_http_error)
    app.add_error_handler(PvcError, answer_pvc_error)


def answer_pvc_error(
    req: falcon.Request, resp: falcon.Response, error: PvcError, _params: Mapping[str, object]
) -> None:
    """One of our own: its fields are the problem's."""
    meaning = OWN_MEANINGS.get(type(error)) or meaning_of(error)
    if isinstance(error, StoreUnavailable | TooManyStreams | PluginBusy):
        resp.set_header("Retry-After", str(RETRY_AFTER_S))
    if isinstance(error, Unauthenticated):
        resp.set_header("WWW-Authenticate", 'Bearer realm="pvc"')
    if meaning.http_status >= 500:
        req.context.log.warning("request_failed", code=meaning.code, problem=error.sentence())
    answer(req, resp, meaning.code, meaning.http_status, error.sentence(), error.details())


def _answer_http_error(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: Mapping[str, object]
) -> None:
    """Falcon's own: no such route, a method or media type that is not served, JSON that is none."""
    if error.headers is not None:
        resp.set_headers(error.headers)
    code = HTTP_CODES.get(error.status_code, "malformed_request" if error.status_code < 500 else "internal")
    detail = error.description or f"{error.title}: {req.method} {req.path}"
    answer(req, resp, code, error.status_code, detail)


def _answer_unexpected(
    req: falcon.Request, resp: falcon.Response, error: Exception, _params: Mapping[str, object]
) -> None:
    """A bug: all of it goes to the log, and only the place to look to the client."""
    req.context.log.error("request_crashed", exc_info=error)
    detail = f"an unexpected error; the server's log has it under request id {req.context.request_id}"
    answer(req, resp, "internal", 500, detail)


def answer(
    req: falcon.Request,
    resp: falcon.Response,
    code: str,
    status: int,
    detail: str,
    fields: Mapping[str, object] | None = None,
) -> None:
    """Make the response this problem."""
    problem = Problem(
        type=f"urn:pvc:problem:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        code=code,
        request_id=req.context.request_id,
    )
    resp.status = status
    resp.content_type = PROBLEM_JSON
    resp.media = None
    resp.text = None
    resp.data = msgspec.json.encode({**(fields or {}), **msgspec.structs.asdict(problem)}, enc_hook=str)
    req.context.problem_code = code
    req.context.outcome = detail
