# SPDX-License-Identifier: Apache-2.0
"""following: wait for what a command has started, by asking its `watch` URL again and again until it has settled.

The command itself is sent once. While waiting, an API that is away for a moment (it restarts, the store elects a
new leader) is not the end: the operation goes on without it, so the wait does too, until its own time is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from pvc_cli.exit_codes import UNAVAILABLE
from pvc_cli.problems import WaitedTooLong, exit_code_of
from pvc_cli.progress import Progress
from pvc_cli.session import F, Session
from pvc_core.errors import PvcError

HOLD_S = 0.5
"""How long the API may hold one answer: progress is shown about this often."""

Describe = Callable[[Any], tuple[str, str]]
"""From a watched document to the line that shows how it stands, and to the part of it that makes it news."""


def wait_options(default_timeout_s: int) -> Callable[[F], F]:
    """--wait and --timeout; the command asks `seconds_to_wait` what they come to."""

    def decorate(command: F) -> F:
        timeout = click.option(
            "--timeout",
            "timeout_s",
            metavar="SECONDS",
            type=click.FloatRange(min=0, min_open=True),
            default=default_timeout_s,
            help="How long to wait at most; the operation goes on after that. Implies --wait.",
        )
        wait = click.option(
            "--wait/--no-wait",
            "wait",
            default=None,
            help="Wait for the end and show progress, or come back at once.  [default: no-wait]",
        )
        return wait(timeout(command))

    return decorate


def seconds_to_wait(wait: bool | None, timeout_s: float) -> float:
    """How long the person wants to wait: not at all unless --wait or --timeout was given."""
    if wait is None:
        context = click.get_current_context()
        source = context.get_parameter_source("timeout_s")
        wait = source is click.core.ParameterSource.COMMANDLINE
    return timeout_s if wait else 0


def follow(
    session: Session,
    watch: str,
    waited_for: str,
    shown_by: str,
    timeout_s: float,
    describe: Describe,
    *,
    is_held: bool = True,
) -> Any:
    """The document at `watch` once it has settled. Raises `WaitedTooLong`.

    `waited_for` and `shown_by` are for people: what is waited for, and the command that shows it later.
    is_held: the API holds its answer until there is news; else it is asked now and then.
    """
    session.going_on = f"the operation goes on, see `{shown_by}`"
    deadline_s = time.monotonic() + timeout_s
    hold_s = 0.0  # the first look shows where it begins
    with Progress() as progress:
        while True:
            asked_s = time.monotonic()
            document = _look(session, watch, hold_s, deadline_s, progress)
            if document is not None and document["settled"]:
                session.going_on = ""
                return document
            if document is not None:
                progress.show(*describe(document))
            now_s = time.monotonic()
            if now_s >= deadline_s:
                raise WaitedTooLong(waited_for, timeout_s, shown_by)
            if (
                hold_s or document is None or not is_held
            ):  # the API holds its answer, unless it is away or too many are waiting
                time.sleep(min(max(0.0, session.poll_s - (now_s - asked_s)), deadline_s - now_s))
            hold_s = min(HOLD_S, max(0.0, deadline_s - time.monotonic())) if is_held else 0.0


def _look(session: Session, watch: str, hold_s: float, deadline_s: float, progress: Progress) -> Any:
    """The document now; None when the API is away but may still come back in time."""
    try:
        return session.api.get_url(watch, wait_s=hold_s)
    except PvcError as error:
        if exit_code_of(error) != UNAVAILABLE or time.monotonic() >= deadline_s:
            raise
        progress.show(f"{error.sentence()}; asking again")
        return None
