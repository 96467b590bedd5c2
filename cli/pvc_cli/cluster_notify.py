# SPDX-License-Identifier: Apache-2.0
"""cluster_notify: `pvc cluster notify-test`: whether whoever is to hear of events does."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

import click

from pvc_cli.exit_codes import DONE, FAILED
from pvc_cli.output import Shown, emit
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table

TRYING_S = 60.0
"""Receivers that hang are waited for one after the other."""
NOBODY = "nobody was told: no plugin is told to tell anybody; set webhook.url or mail.to"


class NotificationAnswer(TypedDict):
    """What one plugin made of it."""

    plugin: str
    result: str
    says: str


class NotificationTest(TypedDict):
    """The event that was to be delivered, and what every plugin made of it."""

    event: str
    answers: list[NotificationAnswer]


@click.command("notify-test")
@click.option(
    "--message",
    metavar="TEXT",
    default="",
    show_default=False,
    help="What else the receivers are to read.  [default: nothing]",
)
@output_option
@pass_session
def notify_test(session: Session, message: str) -> int:
    """Try out whether notifications of events arrive.

    Every plugin that tells of events delivers one now, from the machine that answers; what it reaches, other nodes may
    not. The exit status is 1 when a delivery failed or nobody is to be told.
    """
    patient = replace(session.api, patience_s=TRYING_S)
    tried: NotificationTest = patient.post("cluster", "notify-test", body={"message": message}).document
    results = [answer["result"] for answer in tried["answers"]]
    emit(session.output, tried, lambda: _shown(tried), lambda: results)
    return DONE if "delivered" in results and "failed" not in results else FAILED


def _shown(tried: NotificationTest) -> Shown:
    if all(answer["result"] == "off" for answer in tried["answers"]):
        return NOBODY
    table = Table(("plugin", "result", ""), folding=("",))
    for answer in tried["answers"]:
        mood = "bad" if answer["result"] == "failed" else "good" if answer["result"] == "delivered" else ""
        table.add(answer["plugin"], Cell(answer["result"], mood), answer["says"])
    return table
