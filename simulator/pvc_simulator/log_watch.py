# SPDX-License-Identifier: Apache-2.0
"""log_watch: what the simulated daemons log: an exception that they caught because nothing else was left is a failure.

A daemon goes on after an error that nobody foresaw, and logs it with its traceback. In a simulation that must not
pass unseen.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from pvc_simulator.scheduler import Scheduler

Report = Callable[[str, str], None]


@contextmanager
def watched_log(scheduler: Scheduler, report: Report) -> Iterator[None]:
    """Meanwhile, what is logged as an exception is reported, and nothing is printed."""
    before = structlog.get_config()

    def note(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if entry.get("exc_info"):
            said = traceback.format_exc(limit=-3) if entry["exc_info"] is True else repr(entry["exc_info"])
            where = scheduler.running.process.name if scheduler.running else "the simulation"
            report("daemons go on", f"{where} logged {entry.get('event')}: {said}")
        raise structlog.DropEvent

    structlog.configure(
        processors=[note],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
