# SPDX-License-Identifier: Apache-2.0
"""client: the API as the commands see it: a path and a body in, a document out, problems as errors.

The same client speaks HTTPS to a connection and, on a cluster node, WSGI to the application in this process. What
is asked for is never repeated after a failure: only the person knows whether a second `restart` is wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pvc_cli.applications import load_application
from pvc_cli.connections import Connection
from pvc_cli.problems import ApiProblem, ApiUnreachable, NoConnection
from pvc_core.errors import InvalidInput

if TYPE_CHECKING:
    import httpx

PREFIX = "/api/v1"
OCTETS = "application/octet-stream"
NOTICE_HEADER = "PVC-Notice"
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
"""For the API's own work; the time it was asked to hold the answer comes on top."""
MAX_HOLD_S = 60
"""The longest the API holds one answer (`?wait=`)."""

STREAM_SILENCE_S = 30
"""How much longer than for an answer a stream may say nothing; the API sends a sign of life more often."""

_TOKEN_HINT = (
    "an administrator makes one with `pvc token create NAME` on a cluster node; give it in PVC_API_TOKEN or with "
    "`pvc connection add`"
)


@dataclass(frozen=True)
class Answer:
    """What the API said: its JSON document, or text."""

    document: Any
    etag: str = ""


@dataclass
class Api:
    """One open way to the API. `where` names it in errors."""

    http: httpx.Client
    where: str
    on_close: Callable[[], None] = field(default=lambda: None)
    patience_s: float = ANSWER_TIMEOUT_S
    on_notice: Callable[[str], None] = field(default=lambda _notice: None)
    """Told what the API has to say beside its answer, each sentence once."""
    _noticed: set[str] = field(default_factory=set)

    def close(self) -> None:
        """Give back connections and, in-process, the store's session."""
        self.http.close()
        self.on_close()

    def get(self, *path: str) -> Any:
        """The document at a path."""
        return self.request("GET", *path).document

    def get_url(self, url: str, wait_s: float = 0) -> Any:
        """The document at a `watch` URL that the API gave; only its path and query count, so the token stays here."""
        parts = urlsplit(url)
        path = [unquote(part) for part in parts.path.removeprefix(PREFIX).split("/") if part]
        return self.request("GET", *path, wait_s=wait_s, parameters=dict(parse_qsl(parts.query))).document

    def post(self, *path: str, body: Mapping[str, object]) -> Answer:
        """Ask for something; the answer holds the view and the reason."""
        return self.request("POST", *path, body=body)

    def request(
        self,
        method: str,
        *path: str,
        body: Mapping[str, object] | None = None,
        wait_s: float = 0,
        parameters: Mapping[str, str] | None = None,
        if_match: str = "",
    ) -> Answer:
        """One request. `path` is quoted part by part, so that a name with a slash or a space stays one part."""
        import httpx

        query = dict(parameters or {})
        if wait_s:
            query["wait"] = f"{min(wait_s, MAX_HOLD_S):g}"
        try:
            response = self.http.request(
                method,
                PREFIX + "".join(f"/{_quoted(part)}" for part in path),
                params=query,
                json=body,
                headers={"If-Match": if_match} if if_match else {},
                timeout=self._timeout(wait_s),
            )
        except httpx.TimeoutException as error:
            raise ApiUnreachable(self.where, "no answer in time") from error
        except httpx.HTTPError as error:
            raise ApiUnreachable(self.where, str(error) or type(error).__name__) from error
        return self._noticed_answer(response)

    def send(self, *path: str, pieces: Iterator[bytes], length_bytes: int | None) -> Answer:
        """Send bytes, as many as there are, without holding them. length_bytes: None when that shows in the end."""
        headers = {"Content-Type": OCTETS, **({} if length_bytes is None else {"Content-Length": str(length_bytes)})}
        with self._streamed("PUT", path, content=pieces, headers=headers) as response:
            response.read()
            return self._noticed_answer(response)

    @contextmanager
    def fetch(self, *path: str) -> Iterator[tuple[int, Iterator[bytes]]]:
        """How many bytes there are, and the bytes as they come. Errors as of `request`, also while they come."""
        with self._streamed("GET", path, headers={"Accept": OCTETS}) as response:
            if not response.is_success:
                response.read()
                raise _problem(response)
            yield int(response.headers["Content-Length"]), response.iter_raw()

    @contextmanager
    def _streamed(self, method: str, path: tuple[str, ...], **request: Any) -> Iterator[httpx.Response]:
        import httpx

        url = PREFIX + "".join(f"/{_quoted(part)}" for part in path)
        try:
            with self.http.stream(method, url, timeout=self._timeout(0), **request) as response:
                yield response
        except httpx.TimeoutException as error:
            raise ApiUnreachable(self.where, "it is silent in the middle of the stream") from error
        except httpx.HTTPError as error:
            raise ApiUnreachable(self.where, f"the stream broke off: {error or type(error).__name__}") from error

    def _noticed_answer(self, response: httpx.Response) -> Answer:
        notice = response.headers.get(NOTICE_HEADER, "")
        if notice and notice not in self._noticed:
            self._noticed.add(notice)
            self.on_notice(notice)
        return self._answer(response)

    def follow(self, *path: str, parameters: Mapping[str, str]) -> Iterator[Any]:
        """The documents of a server-sent stream as they come; ends when the API ends it. Errors as of `request`."""
        import httpx

        url = PREFIX + "".join(f"/{_quoted(part)}" for part in path)
        try:
            with self.http.stream(
                "GET",
                url,
                params={**parameters, "follow": "true"},
                headers={"Accept": "text/event-stream"},
                timeout=self._timeout(STREAM_SILENCE_S),
            ) as response:
                if not response.is_success:
                    response.read()
                    raise _problem(response)
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield _parsed(line.removeprefix("data:"), self.where)
        except httpx.TimeoutException as error:
            raise ApiUnreachable(self.where, "the stream is silent") from error
        except httpx.HTTPError as error:
            raise ApiUnreachable(self.where, str(error) or type(error).__name__) from error

    def _timeout(self, wait_s: float) -> httpx.Timeout:
        import httpx

        hold_s = min(wait_s, MAX_HOLD_S)
        return httpx.Timeout(self.patience_s + hold_s, connect=min(CONNECT_TIMEOUT_S, self.patience_s))

    def _answer(self, response: httpx.Response) -> Answer:
        if not response.is_success:
            raise _problem(response)
        kind = response.headers.get("content-type", "")
        if response.status_code == 204 or not response.content:
            document: Any = {}
        elif "json" in kind:
            document = _json(response, self.where)
        elif "html" in kind:
            raise ApiUnreachable(self.where, "a web page answered, not PVC's API")
        else:
            document = response.text
        return Answer(document, response.headers.get("etag", ""))


def open_remote(connection: Connection, patience_s: float = ANSWER_TIMEOUT_S) -> Api:
    """The API at a connection's URL. Raises `InvalidInput` when its CA file cannot be used."""
    import httpx

    if not (connection.token.isascii() and connection.token.isprintable()):
        raise InvalidInput("token", "holds characters that no token has")
    headers = {"Authorization": f"Bearer {connection.token}"} if connection.token else {}
    http = httpx.Client(
        base_url=connection.url,
        headers=headers,
        verify=_trust(connection),
        trust_env=not connection.is_loopback,  # no proxy of the environment stands between this machine and itself
    )
    return Api(http, connection.url, patience_s=patience_s)


def open_local(environment: Mapping[str, str]) -> Api:
    """This machine's own application, found by entry point. Raises `NoConnection` without a configuration."""

    import httpx

    from pvc_cli.in_process import InProcessTransport
    from pvc_core.configuration import configuration_path

    path = configuration_path(environment.get("PVC_CONFIG") or None)
    if not os.access(path, os.R_OK):
        raise NoConnection(str(path))
    application, close = load_application("api")(str(path))
    http = httpx.Client(transport=InProcessTransport(application), base_url="http://localhost")
    return Api(http, f"this machine ({path})", close)


def _trust(connection: Connection) -> Any:
    """What httpx verifies certificates with; only an HTTPS connection pays for loading it."""
    if not connection.url.startswith("https:"):
        return False
    import ssl

    try:
        return ssl.create_default_context(cafile=connection.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput("ca", f"is not a usable file of certificates: {error}", connection.ca) from error


def _quoted(part: str) -> str:
    """One part of a path. Raises `InvalidInput` for what would name another path: nothing, `.` and `..`."""
    if part in ("", ".", ".."):
        raise InvalidInput("name", "cannot be the name of anything", part or "''")
    return quote(part, safe="")


def _parsed(text: str, where: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise ApiUnreachable(where, "the stream is not JSON") from error


def _json(response: httpx.Response, where: str) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise ApiUnreachable(where, "the answer is not JSON") from error


def _problem(response: httpx.Response) -> ApiProblem:
    """The error that a response outside 2xx describes, also when a proxy wrote it."""
    document: Any = None
    if "json" in response.headers.get("content-type", ""):
        document = _json(response, str(response.url))
    if not isinstance(document, dict):
        document = {}
    status = response.status_code
    detail = str(document.get("detail") or document.get("title") or "")
    if not detail:
        detail = f"{response.request.method} {response.request.url.path} was answered with HTTP status {status}"
    hint = _TOKEN_HINT if status == 401 else ""
    return ApiProblem(status, str(document.get("code") or f"http_{status}"), detail, document, hint)
