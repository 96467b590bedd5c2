# SPDX-License-Identifier: Apache-2.0
"""events: /events: what has happened in the cluster, as a list or as it happens."""

from __future__ import annotations

import falcon

from pvc_api.bodies import EventQuery
from pvc_api.documentation import Media, documented
from pvc_api.event_stream import EVENT_STREAM
from pvc_api.services import Services
from pvc_api.views import BrokenRecordView, EventList
from pvc_core.event_log import Wanted, any_event
from pvc_core.events import Event
from pvc_core.snapshot import ClusterSnapshot

LISTED = 100


class EventCollection:
    """All events."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @documented("Events", "viewer", {200: EventList}, query=EventQuery, or_stream=Media(EVENT_STREAM))
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List events, newest last; or follow them.

        With `follow=true`, or `Accept: text/event-stream`, the answer is a server-sent stream of one event a message,
        which goes on from `Last-Event-ID` or `since`. A listing may be asked for events after the last one it had.
        """
        query: EventQuery = req.context.query
        wanted = _wanted(query, self._services.view.snapshot())
        if query.follow or EVENT_STREAM in req.accept:
            self._follow(req, resp, query, wanted)
            return
        page = self._services.event_tail.events.last(
            LISTED if query.limit is None else query.limit, wanted, query.since
        )
        resp.media = EventList(
            events=page.events,
            broken=tuple(BrokenRecordView(key=broken.key, problem=broken.problem) for broken in page.broken),
        )

    def _follow(self, req: falcon.Request, resp: falcon.Response, query: EventQuery, wanted: Wanted) -> None:
        since = req.get_header("Last-Event-ID") or query.since or None
        resp.stream = self._services.event_tail.open(wanted, since, query.limit or 0)
        resp.content_type = EVENT_STREAM
        resp.set_header("X-Accel-Buffering", "no")


def _wanted(query: EventQuery, snapshot: ClusterSnapshot) -> Wanted:
    """A VM is found under every name that it had, as long as it exists; one that is gone, by its name or UUID."""
    uuid = snapshot.uuid_by_name.get(query.vm, query.vm.lower())
    if not (query.vm or query.node or query.kind):
        return any_event

    def wanted(event: Event) -> bool:
        return (
            (not query.vm or query.vm == event.vm or uuid == event.uuid)
            and (not query.node or query.node in (event.node, event.target))
            and (not query.kind or query.kind == event.kind)
        )

    return wanted
