# SPDX-License-Identifier: Apache-2.0
"""logging_setup: how every PVC process logs: one event per line to standard error, JSON or for a console.

Events are constant snake_case names with fields (`vm_placed`, vm=, node=, reason=).
"""

from __future__ import annotations

import logging
import sys

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up_logging(log_format: str = "json", level: str = "info") -> None:
    """Configure structlog for this process. `log_format`: json or console; `level`: one of `LEVELS`."""
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    else:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        # One write a line: a worker's line must not end up within another's, to whose file it writes as well.
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
