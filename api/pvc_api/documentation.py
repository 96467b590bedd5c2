# SPDX-License-Identifier: Apache-2.0
"""documentation: what each method takes and answers, declared where it is implemented: checked and published.

SpecTree reads the declarations, converts requests through `decoding` before a resource sees them, and makes the
OpenAPI document of them. What it does not know is added here: problem+json, other media types, response headers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, TypeVar, cast

import falcon
import msgspec
from spectree import SecurityScheme, SpecTree
from spectree.model_adapter.msgspec_adapter import MsgspecModelAdapter
from spectree.models import SecureType, SecuritySchemeData
from spectree.plugins.falcon_plugin import FalconPlugin
from spectree.response import Response

from pvc_api.authentication import ACCESS_ATTRIBUTE, Access
from pvc_api.decoding import Body, Query, read
from pvc_api.problems import PROBLEM_JSON, Problem
from pvc_api.streams import STREAM_ATTRIBUTE
from pvc_api.version import pvc_version
from pvc_api.views import Answer
from pvc_core.contributions import OCTETS

F = TypeVar("F", bound=Callable[..., None])
Tag = Literal["VMs", "Nodes", "Cluster", "Events", "Storage", "Plugins", "Tokens", "Service"]

SPEC_PATH = "/api/v1/openapi.json"
OWN_PACKAGES = ("pvc_api", "pvc_core")
ALWAYS = (400, 401, 403, 422, 500, 503)
"""Problems that every method which needs a token may answer with."""


class NoQuery(Query, frozen=True):
    """Of methods without query parameters: any is refused."""


class _Adapter(MsgspecModelAdapter):
    """Converts strictly, and raises our own error, which becomes a problem like any other."""

    def validate_obj(self, model: type[Any], value: Any) -> Any:
        return read(model, value)


class _Backend(FalconPlugin):
    """Leaves the routes to us: no documentation pages that load scripts from elsewhere."""

    def register_route(self, app: Any) -> None:
        """Nothing: `resources.service` serves the document."""

    def validate_response(self, resp: Any, *arguments: Any) -> Exception | None:
        """A stream is no document, and has not been made yet."""
        return None if resp.stream is not None else super().validate_response(resp, *arguments)

    def parse_path(self, route: Any, path_parameter_descriptions: Any) -> tuple[str, list[Any]]:
        """The path as clients see it; SpecTree escapes it as if it were to become a regular expression."""
        path, parameters = super().parse_path(route, path_parameter_descriptions)  # type: ignore[no-untyped-call]
        return path.replace("\\", ""), parameters


@dataclass(frozen=True)
class Media:
    """An answer that is not JSON."""

    content_type: str


class _Answers(Response):  # type: ignore[misc, unused-ignore]
    """A method's responses, with the media types and headers they really have."""

    def __init__(
        self, media: dict[int, Media], headers: dict[str, str], stream: Media | None = None, **models: Any
    ) -> None:
        super().__init__(**models)
        self._stream = stream
        self._media = media
        self._headers = headers

    def generate_spec(self, naming_strategy: Any = None) -> dict[str, Any]:
        """The `responses` object of the operation."""
        responses: dict[str, Any] = super().generate_spec(naming_strategy)
        for status, response in responses.items():
            code = int(status)
            if code in self._media:
                response["content"] = {self._media[code].content_type: {"schema": {"type": "string"}}}
            elif code == HTTPStatus.OK and self._stream is not None:
                response["content"][self._stream.content_type] = {"schema": {"type": "string"}}
            elif self.find_model(code) is Problem:
                response["content"] = {PROBLEM_JSON: response["content"]["application/json"]}
            names = _ERROR_HEADERS.get(code, {}) if code >= 400 else self._headers
            headers = {**_COMMON_HEADERS, **names}
            response["headers"] = {
                name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()
            }
        return dict(sorted(responses.items()))


_COMMON_HEADERS = {"X-Request-Id": "The request's id, as in the server's log"}
_ERROR_HEADERS = {
    401: {"WWW-Authenticate": "How to authenticate"},
    405: {"Allow": "The methods that are served"},
    503: {"Retry-After": "Seconds after which to try again"},
}
ETAG = {"ETag": "The record's version, for If-Match"}


def _schema_name(model: type[Any]) -> str:
    """A model's name in the document; a plugin's begins with that of its package, so that it is not taken for ours."""
    package = model.__module__.partition(".")[0]
    return model.__name__ if package in OWN_PACKAGES else f"{package}.{model.__name__}"


class _Spec(SpecTree):
    """All declarations of this process."""

    def document_of(self, app: falcon.App[falcon.Request, falcon.Response]) -> dict[str, Any]:
        """What SpecTree makes of one application; it would answer every other one with the first one's document."""
        self.register(app)  # type: ignore[no-untyped-call, unused-ignore]
        models = copy.deepcopy(self.models)  # the nested ones are moved out of them
        try:
            return self._with_streams(self._generate_spec())
        finally:
            self.models.clear()
            self.models.update(models)

    def _with_streams(self, document: dict[str, Any]) -> dict[str, Any]:
        """With the bodies that are no JSON, of which SpecTree does not know."""
        for route in self.backend.find_routes():  # type: ignore[no-untyped-call, unused-ignore]
            path, _ = self.backend.parse_path(route, None)
            for method, function in self.backend.parse_func(route):
                if getattr(function, STREAM_ATTRIBUTE, False):
                    document["paths"][path][method.lower()]["requestBody"] = _STREAM_BODY
        return document


spec = _Spec(
    backend=_Backend,
    model_adapter=cast(Any, _Adapter()),  # its protocol wants one exception type for all adapters
    naming_strategy=_schema_name,
    nested_naming_strategy=lambda parent, child: f"{parent.rpartition('.')[0]}.{child}".removeprefix("."),
    validation_error_model=Problem,
    page_templates={},
    title="PVC",
    description="A plugin-based cluster manager for libvirt/KVM virtual machines.",
    security_schemes=[
        SecurityScheme(
            name="bearer",
            data=SecuritySchemeData(type=SecureType.HTTP, scheme="bearer", description="A token of `pvc token create`"),
        )
    ],
    security=[{"bearer": []}],
)


def documented(
    tag: Tag,
    access: Access,
    answers: dict[int, type[msgspec.Struct] | Media],
    *,
    problems: tuple[int, ...] = (),
    body: type[Body] | None = None,
    takes_stream: bool = False,
    query: type[Query] | None = NoQuery,
    headers: dict[str, str] | None = None,
    or_stream: Media | None = None,
) -> Callable[[F], F]:
    """Declare a method of a resource. Its docstring is the documentation.

    access: the least role that may use it. answers: successful ones by status. problems: further than `ALWAYS`.
    takes_stream: the body is bytes of any length; see `streams`. or_stream: what a reader gets instead of the answer
    200 who asks for a stream.
    The converted body and query string stand in `req.context.json` and `req.context.query`.
    """
    models: dict[str, Any] = {}
    media: dict[int, Media] = {}
    bodies = (411, 413, 415) if body else (411, 415) if takes_stream else ()
    for status in sorted({*problems, *bodies, *(() if access == "public" else ALWAYS)} - set(answers)):
        models[f"HTTP_{status}"] = Problem
    for status, answer in answers.items():
        if isinstance(answer, Media):
            media[status] = answer
        models[f"HTTP_{status}"] = None if isinstance(answer, Media) else answer
    validate = spec.validate(
        json=body,
        query=query,
        resp=_Answers(media, headers or {}, or_stream, **models),
        tags=[tag],
        security=[{}] if access == "public" else None,
        validation_error_status=HTTPStatus.UNPROCESSABLE_ENTITY,
    )

    def declare(method: F) -> F:
        declared = validate(method)
        setattr(declared, ACCESS_ATTRIBUTE, access)
        setattr(declared, STREAM_ATTRIBUTE, takes_stream)
        return cast(F, declared)

    return declare


def openapi_document(app: falcon.App[falcon.Request, falcon.Response]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an application that has all its routes."""
    document = spec.document_of(app)
    document["info"]["version"] = pvc_version()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["operationId"] = f"{method}{path.removeprefix('/api/v1').translate(_ID_CHARACTERS)}"
            if "412" in operation["responses"] and _IF_MATCH not in operation["parameters"]:
                operation["parameters"].append(_IF_MATCH)
    schemas = document["components"]["schemas"]
    for name in [name for name in schemas if name.endswith("Query")]:
        del schemas[name]  # they are listed as parameters
    _drop_unused(document, [name for name in schemas if "." in name])
    schemas[Problem.__name__]["additionalProperties"] = True  # the error's own fields
    for answer in _answers(Answer):
        if answer.__name__ in schemas:  # no field is ever left out of an answer
            schemas[answer.__name__]["required"] = list(schemas[answer.__name__]["properties"])
    return document


def _drop_unused(document: dict[str, Any], names: list[str]) -> None:
    """Without those of these schemas that nothing refers to: of plugins that another application in here serves."""
    schemas = document["components"]["schemas"]
    while True:
        text = msgspec.json.encode(document).decode()
        unused = [name for name in names if name in schemas and f'"#/components/schemas/{name}"' not in text]
        if not unused:
            return
        for name in unused:
            del schemas[name]


def _answers(root: type[Answer]) -> Iterator[type[Answer]]:
    for answer in root.__subclasses__():
        yield answer
        yield from _answers(answer)


_STREAM_BODY = {"required": True, "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}
_ID_CHARACTERS = str.maketrans({"/": "_", "{": "", "}": "", "-": "_", ".": "_"})
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string"},
    "required": False,
    "description": "Do it only if the record still has this ETag; else 412",
}
