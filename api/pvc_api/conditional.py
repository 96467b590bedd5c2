# SPDX-License-Identifier: Apache-2.0
"""conditional: ETag and If-Match: a change that is made only to the version its author has seen.

Comparing before the command is not enough: a command that loses a race decides again on what it then reads. So the
expected version is looked at inside every attempt, where the transaction then carries the same version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import falcon

from pvc_api.problems import PreconditionFailed
from pvc_core.changes import Change
from pvc_core.cluster_view import ClusterView
from pvc_core.snapshot import ClusterSnapshot

Guard = Callable[[ClusterSnapshot], None]
_GUARD: ContextVar[Guard | None] = ContextVar("guard", default=None)


class ConditionalView(ClusterView):
    """A cluster view whose commits hold only while the guard of the current request agrees."""

    def commit(self, decide: Callable[[ClusterSnapshot], Change]) -> Change:
        guard = _GUARD.get()
        if guard is None:
            return super().commit(decide)

        def guarded(snapshot: ClusterSnapshot) -> Change:
            guard(snapshot)
            return decide(snapshot)

        return super().commit(guarded)


def etag(version: int | str) -> str:
    """The entity tag of a record's version."""
    return f'"{version}"'


@contextmanager
def if_match(req: falcon.Request, version_of: Callable[[ClusterSnapshot], int], subject: str) -> Iterator[None]:
    """Let the commands inside change `subject` only in a version that If-Match names; any when there is no such header.

    Raises `PreconditionFailed`.
    """
    header = req.get_header("If-Match")
    if header is None or header.strip() == "*":
        yield
        return
    accepted = {str(tag) for tag in req.if_match or () if isinstance(tag, falcon.ETag) and not tag.is_weak}

    def guard(snapshot: ClusterSnapshot) -> None:
        current = str(version_of(snapshot))
        if current not in accepted:
            raise PreconditionFailed(subject, header, etag(current))

    token = _GUARD.set(guard)
    try:
        yield
    finally:
        _GUARD.reset(token)
