# SPDX-License-Identifier: Apache-2.0
"""planning: --plan on commands that change where VMs are: show what would be done, by the code that would do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from pvc_cli.asking import ask
from pvc_cli.output import emit
from pvc_cli.plan_tables import plan_shown, plan_status
from pvc_cli.plan_views import PlanView
from pvc_cli.session import F, Session
from pvc_core.errors import InvalidInput

if TYPE_CHECKING:
    from pvc_core.plan_document import PlanDocument
    from pvc_core.questions import Questions


def plan_option(command: F) -> F:
    """--plan, for commands that move VMs."""
    return click.option(
        "--plan",
        is_flag=True,
        help="Show what would be done and change nothing; exit status 10 when a VM would get no place.",
    )(command)


def check_planning(plan: bool, snapshot_file: str) -> None:
    """A file can be planned with and nothing else. Raises `InvalidInput`."""
    if snapshot_file and not plan:
        raise InvalidInput("--snapshot", "only goes with --plan: nothing can be done to the cluster of a file")


def show_plan(
    session: Session,
    snapshot_file: str,
    question: Callable[[Questions], PlanDocument],
    *path: str,
    parameters: Mapping[str, str] | None = None,
) -> int:
    """Print a plan; the exit status says whether every VM gets a place."""
    found: PlanView = ask(session, snapshot_file, question, *path, parameters=parameters)
    emit(session.output, found, lambda: plan_shown(found), lambda: [step["vm"] for step in found["steps"]])
    return plan_status(found)
