# SPDX-License-Identifier: Apache-2.0
"""wsgi: the composition roots: the application for a server's worker process, and the one inside the CLI.

Both name the same parts; they differ in who is let in and in where the log goes. A worker builds its own registry,
store session and copy of the cluster after the fork: client threads do not survive one.
"""

from __future__ import annotations

import atexit
import logging
import logging.handlers
import os
import pwd
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import structlog

from pvc_api.app import App, create_app
from pvc_api.authentication import Authenticator, BearerAuthenticator, LocalAuthority, acting
from pvc_api.conditional import ConditionalView
from pvc_api.connection import Connection
from pvc_api.event_stream import EventTail
from pvc_api.services import Log, Services
from pvc_api.tokens import TokenBook
from pvc_api.waiting import Waiter
from pvc_core.commands import Commands
from pvc_core.configuration import Configuration, load_configuration
from pvc_core.event_log import EventLog
from pvc_core.journal import Journal, Notes
from pvc_core.logging_setup import set_up_logging
from pvc_core.notifications import Notifier
from pvc_core.ports import ClusterStore
from pvc_core.registry import Registry
from pvc_core.system_clock import SystemClock

STARTUP_PATIENCE_S = 3.0
"""How long a worker waits for the store before it begins to answer 503."""
LOCAL_WAITING_SLOTS = 64
CLOSING_PATIENCE_S = 0.5
SYSLOG = Path("/dev/log")


@dataclass(frozen=True)
class Serving:
    """An application and what it stands on."""

    app: App
    services: Services
    connection: Connection
    notifier: Notifier
    notes: Notes

    def stop_waiting(self) -> None:
        """Answer all requests that wait for something. Safe in a signal handler."""
        self.services.waiter.stop()

    def close(self) -> None:
        """Tell what is to be told still, and end the session with the store."""
        self.stop_waiting()
        self.notifier.close(CLOSING_PATIENCE_S)
        self.notes.close(CLOSING_PATIENCE_S)
        self.connection.close()


def create_application() -> App:
    """For any WSGI server: the application as $PVC_CONFIG says. Called in the process that serves, after any fork."""
    serving = serve(load_configuration())
    atexit.register(serving.close)
    return serving.app


def serve(configuration: Configuration) -> Serving:
    """The application of one worker process, connected or still trying to be.

    Raises `PvcError` for what it cannot build; a store that is away is not among it.
    """
    set_up_logging(configuration.log.format, configuration.log.level)
    log: Log = structlog.get_logger("pvc_api")
    registry = Registry.load(configuration.plugins.blocked, configuration.plugin)
    for problem in registry.problems:
        log.error("plugin_problem", problem=problem)
    store = registry.open_store(configuration.cluster.store)
    slots = configuration.api.threads - 2
    serving = _compose(registry, store, BearerAuthenticator, slots, log, log)
    serving.connection.open_when_possible(STARTUP_PATIENCE_S)
    return serving


def create_local_application(config_path: str | None) -> tuple[App, Callable[[], None]]:
    """The application in this process, and what to call at its end; whoever runs it is an admin.

    It needs no token: a user who may read the configuration and write to the store could do without an API.
    Raises `PvcError`; `StoreUnavailable` when the store does not answer.
    """
    configuration = load_configuration(config_path)
    if not structlog.is_configured():
        set_up_logging("console", "error")
    registry = Registry.load(configuration.plugins.blocked, configuration.plugin)
    store = registry.open_store(configuration.cluster.store)
    log: Log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
    authority = LocalAuthority(_user())
    serving = _compose(
        registry, store, lambda _tokens: authority, LOCAL_WAITING_SLOTS, log, _syslog(), mirror_tokens=False
    )
    try:
        serving.connection.open()
    except BaseException:
        serving.close()
        raise
    return serving.app, serving.close


def _compose(
    registry: Registry,
    store: ClusterStore,
    authenticator_of: Callable[[TokenBook], Authenticator],
    waiting_slots: int,
    log: Log,
    audit_log: Log,
    *,
    mirror_tokens: bool = True,
) -> Serving:
    clock = SystemClock()
    journal = Journal(clock, lambda: acting().author)
    notes = Notes(store, journal, clock)
    view = ConditionalView(store, clock, journal)
    notifier = Notifier(registry, lambda: view.settings, notes.plugin_failed)
    journal.listen(notifier)
    tokens = TokenBook(store, clock, journal)
    waiter = Waiter(view, clock, waiting_slots)
    services = Services(
        commands=Commands(view, store, registry, clock, notes.plugin_failed),
        view=view,
        store=store,
        registry=registry,
        authenticator=authenticator_of(tokens),
        tokens=tokens,
        waiter=waiter,
        event_tail=EventTail(EventLog(store), view, waiter, clock),
        on_plugin_failure=notes.plugin_failed,
        clock=clock,
        log=log,
        audit_log=audit_log,
    )
    connection = Connection(store, view, tokens if mirror_tokens else None, log)
    return Serving(create_app(services), services, connection, notifier, notes)


def _user() -> str:
    """Who runs this process: the person behind sudo, where there is one."""
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _syslog() -> Log:
    """The machine's log, for what is changed from its command line; nowhere where there is none."""
    logger = logging.getLogger("pvc_api.audit")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(_syslog_handler())
    wrapped = structlog.wrap_logger(
        logger,
        processors=[structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    return cast(Log, wrapped)


def _syslog_handler() -> logging.Handler:
    if not SYSLOG.exists():
        return logging.NullHandler()
    handler = logging.handlers.SysLogHandler(str(SYSLOG))
    handler.ident = "pvc: "
    return handler
