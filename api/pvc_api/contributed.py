# SPDX-License-Identifier: Apache-2.0
"""contributed: the resources that plugins add to the API: which are served, and what keeps one from harming others.

None takes a path that PVC or another plugin serves. What a plugin's method raises, or answers against its own
declaration, is a problem of that one request and names the plugin; and of each plugin only some requests are served
at a time, so that one that hangs leaves threads to everybody else. Streams of bytes have a bound of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import falcon
import msgspec

from pvc_api.documentation import Media, documented
from pvc_api.node_questions import ask_node
from pvc_api.problems import PluginBusy
from pvc_api.services import Services
from pvc_api.streams import Streams
from pvc_core.contributions import OCTETS, ApiMethod, ApiResource, ApiSite, declared_by, is_same, overlap
from pvc_core.errors import PluginError, PvcError
from pvc_core.plugin_types import PluginOptions
from pvc_core.snapshot_copies import copy_for_plugins
from pvc_core.task_entries import NodeTask
from pvc_core.task_records import TaskView

METHODS = ("on_get", "on_post", "on_put", "on_patch", "on_delete")
UNDECLARED = ApiMethod()

Responder = Callable[..., None]
AddRoute = Callable[[str, object], None]


def add_contributed(services: Services, own: Sequence[str], add_route: AddRoute) -> Mapping[str, Sequence[str]]:
    """Serve what plugins add, beside PVC's `own` templates; by plugin, why something of it is not served."""
    entries = services.registry.api_resources.values()
    refusals: dict[str, list[str]] = {}
    gates: dict[str, Gate] = {}
    streams = Streams(max(1, services.waiter.slots // 3), lambda: services.waiter.is_stopping)
    for entry in entries:
        gate = gates.setdefault(entry.plugin, Gate(entry.plugin, max(1, services.waiter.slots // 2)))
        try:
            _refuse_taken(entry, own, entries)
            _add(entry, _built(entry, services, gate, streams), add_route)
        except PluginError as failure:
            refusals.setdefault(entry.plugin, []).append(f"{entry.template} is not served: {failure.problem}")
    for plugin, sentences in refusals.items():
        services.log.error("plugin_problem", plugin=plugin, problem="; ".join(sentences))
    return refusals


def _add(entry: ApiResource, resource: object, add_route: AddRoute) -> None:
    try:
        add_route(entry.template, resource)
    except ValueError as error:  # such as a field that has another name in a template beside it
        raise PluginError(entry.plugin, f"the template cannot be served: {error}") from error


def _refuse_taken(entry: ApiResource, own: Iterable[str], entries: Iterable[ApiResource]) -> None:
    """Raises `PluginError` when somebody else's template could match the same path, or one of its own always does."""
    for template in own:
        if overlap(entry.template, template):
            raise PluginError(entry.plugin, f"PVC serves {template}")
    for other in entries:
        is_strangers = other.plugin != entry.plugin and overlap(entry.template, other.template)
        if is_strangers or (other is not entry and is_same(entry.template, other.template)):
            raise PluginError(entry.plugin, f"plugin {other.plugin} adds {other.template}")


def _built(entry: ApiResource, services: Services, gate: Gate, streams: Streams) -> object:
    """The resource as the application serves it, its methods guarded and documented. Raises `PluginError`."""
    calls, registry = services.registry.calls, services.registry

    def options() -> PluginOptions:
        return registry.options(entry.plugin, services.view.settings)

    def give_task(task: NodeTask) -> TaskView:
        return services.commands.give_task(task, entry.plugin)

    def ask(task: NodeTask, timeout_s: float) -> Mapping[str, Any]:
        return ask_node(services, task, entry.plugin, timeout_s)

    site = ApiSite(lambda: copy_for_plugins(services.view.snapshot()), options, services.store, give_task, ask)
    resource = calls.ask(entry.plugin, entry.build, site, deadline_s=calls.limits.open_s)
    methods = {
        name: _served(entry, responder, gate, streams, services.on_plugin_failure)
        for name in METHODS
        if callable(responder := getattr(resource, name, None))
    }
    if not methods:
        raise PluginError(entry.plugin, f"what build returned serves none of {', '.join(METHODS)}")
    return type("ContributedResource", (), methods)()


def _served(
    entry: ApiResource,
    responder: Responder,
    gate: Gate,
    streams: Streams,
    on_failure: Callable[[PluginError], None],
) -> Responder:
    declared = declared_by(responder) or UNDECLARED

    def door(req: falcon.Request, resp: falcon.Response) -> AbstractContextManager[None]:
        if declared.takes_stream:
            return streams.taking(req)
        return streams.giving(req, resp) if declared.gives_stream else gate

    def method(self: object, req: falcon.Request, resp: falcon.Response, **fields: str) -> None:
        try:
            with door(req, resp):
                _answer(entry.plugin, responder, declared, req, resp, fields)
        except PluginError as failure:
            on_failure(failure)
            raise

    other = Media(OCTETS if declared.gives_stream else falcon.MEDIA_JSON)
    answers: dict[int, type[msgspec.Struct] | Media] = {**declared.answers} or {200: other}
    method.__doc__ = responder.__doc__ or f"{entry.summary.rstrip('.')}."
    try:
        return documented(
            "Plugins",
            declared.access,
            answers,
            problems=declared.problems,
            body=cast(Any, declared.body),
            takes_stream=declared.takes_stream,
            query=cast(Any, declared.query),
        )(method)
    except Exception as error:
        raise PluginError(entry.plugin, f"its declaration cannot be documented: {error}") from error


def _answer(
    plugin: str,
    responder: Responder,
    declared: ApiMethod,
    req: falcon.Request,
    resp: falcon.Response,
    fields: Mapping[str, str],
) -> None:
    """Call the plugin's method. Raises `PluginError` for whatever it does wrong; problems that it means pass."""
    try:
        responder(req, resp, **fields)
    except (PvcError, falcon.HTTPError, falcon.HTTPStatus, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginError(plugin, f"{type(error).__name__} in {req.method} {req.path}; see the server's log") from error
    model = declared.answers.get(resp.status_code)
    if model is None or isinstance(resp.media, model):
        return
    try:
        resp.media = msgspec.convert(msgspec.to_builtins(resp.media), model)
    except (msgspec.ValidationError, TypeError) as error:
        resp.media = None
        raise PluginError(plugin, f"its answer is no {model.__name__}: {error}") from error


class Gate:
    """Lets a bounded number of requests at a time through to one plugin."""

    def __init__(self, plugin: str, limit: int) -> None:
        self._plugin = plugin
        self._limit = limit
        self._free = threading.BoundedSemaphore(limit)

    def __enter__(self) -> None:
        """Raises `PluginBusy` at once when there is no room."""
        if not self._free.acquire(blocking=False):
            raise PluginBusy(self._plugin, self._limit)

    def __exit__(self, *_raised: object) -> None:
        self._free.release()
