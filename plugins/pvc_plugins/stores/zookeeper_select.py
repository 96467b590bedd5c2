# SPDX-License-Identifier: Apache-2.0
"""zookeeper_select: waits for kazoo's two sockets with poll(2), because kazoo's own way costs a third of its speed.

kazoo builds and tears down an epoll object for every request and every answer. Reading ten thousand keys does
that forty thousand times.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Any

from kazoo.handlers.threading import SequentialThreadingHandler

Ready = tuple[list[Any], list[Any], list[Any]]


class PollingHandler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo's threading handler with another `select`."""

    def select(self, rlist: Sequence[Any], wlist: Sequence[Any], _xlist: Sequence[Any], timeout: float | None) -> Ready:
        """As `select.select`, without its limit on file descriptors; `timeout` in seconds."""
        waiting = select.poll()
        readers = {item.fileno(): item for item in rlist}
        writers = {item.fileno(): item for item in wlist}
        for descriptor in readers:
            waiting.register(descriptor, select.POLLIN)
        for descriptor in writers:
            waiting.register(descriptor, select.POLLOUT)
        ready = [descriptor for descriptor, _ in waiting.poll(None if timeout is None else timeout * 1000)]
        return [readers[d] for d in ready if d in readers], [writers[d] for d in ready if d in writers], []
