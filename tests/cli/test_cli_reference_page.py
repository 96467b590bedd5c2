# SPDX-License-Identifier: Apache-2.0
"""docs/cli.md lists the commands as they are, and every command explains itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from pvc_api import (
    bodies,
    fence_answers,
    maintenance_views,
    plugin_answers,
    storage_views,
    token_views,
    views,
    volume_views,
)
from pvc_api.app import PREFIX as API_PREFIX
from pvc_api.views import ShownVmState
from pvc_api.waiting import MAX_WAIT_S
from pvc_cli import client, cluster_notify, fence_views, following, plan_views, storage_commands, task_following
from pvc_cli import views as cli_views
from pvc_cli.reference import commands, with_reference
from pvc_cli.token_commands import ROLES
from pvc_cli.words import MOOD_OF_STATE
from pvc_core import task_records
from pvc_core.capacity import Capacity, NodeLoss, Stranded
from pvc_core.events import Event
from pvc_core.notification_test import NotificationAnswer, NotificationTest
from pvc_core.pause_record import Pause
from pvc_core.placement import Decision, Ranked, Rejection
from pvc_core.plan_document import BalanceDocument, PlanDocument
from pvc_core.planner import Stay, Step
from pvc_core.plugin_troubles import PluginTrouble

PAGE = Path(__file__).parents[2] / "docs/cli.md"
ALL = list(commands())
NAMES = [name for name, _, _ in ALL]

WANTED = """
    vm define|meta|modify|dump|rename|undefine|remove|info|list|explain
    vm start|restart|shutdown|stop|disable|migrate|move|unmigrate
    vm:volume list|add|remove|rename|repair
    vm:snapshot list|show|add|rollback|remove
    node list|info|flush|ready|fence|confirm-fenced|fence-test|maintenance
    node:fence-device add|list|remove|clear
    cluster status|settings|maintenance|capacity|snapshot|balance|apply|plan|notify-test
    cluster:rule add|list|show|remove
    storage list
    task list|info|wait|cancel
    plugin list|show|new
    token create|list|revoke
    connection add|list|remove|use
    storage:ceph status|util|repair
    storage:ceph:pool list|add|remove|set
    storage:ceph:osd list|add|remove|in|out|set|unset
    storage:ceph:volume list|add|resize|rename|clone|upload|download|remove
    storage:ceph:volume:snapshot list|add|rename|protect|rollback|remove
    storage:directory repair
    storage:directory:pool list
    storage:directory:volume list|add|resize|rename|clone|upload|download|remove
    storage:directory:volume:snapshot list|add|rename|protect|rollback|remove
    simulate run|chaos
"""


def test_the_page_is_as_new_as_the_commands() -> None:
    page = PAGE.read_text()
    assert page == with_reference(page), "regenerate it: python -m pvc_cli.reference docs/cli.md"


def test_every_command_of_the_design_is_there() -> None:
    for line in WANTED.split("\n"):
        group, _, names = line.strip().partition(" ")
        for name in filter(None, names.split("|")):
            assert f"pvc {group.replace(':', ' ')} {name}" in NAMES
    assert {"pvc completion", "pvc version"} <= set(NAMES)


def shown_in_the_list(command: click.Command, context: click.Context) -> str:
    """A plugin's command is not loaded for a list: what its entry says stands there."""
    group = context.parent
    if group is not None and isinstance(group.command, click.Group):
        command = group.command.get_command(group, context.info_name or "") or command
    return command.get_short_help_str(limit=100)


@pytest.mark.parametrize(("name", "command", "context"), ALL, ids=NAMES)
def test_a_command_explains_itself_and_each_of_its_options(
    name: str, command: click.Command, context: click.Context
) -> None:
    assert command.help
    listed = shown_in_the_list(command, context)
    assert len(listed) <= 62, f"{listed!r} would be cut in the list of commands"
    for option in command.params:
        if isinstance(option, click.Option):
            record = option.get_help_record(context)
            assert record is not None
            assert option.help
            defaults = record[1].count("[default: ")
            assert defaults <= 1, f"{name} {record[0]} names two defaults"
            assert defaults or option.is_flag or option.required, f"{name} {record[0]} names no default"


@pytest.mark.parametrize("words", ["--help", "vm --help", "completion bash", "connection list", "vm lsit"])
def test_what_needs_no_cluster_loads_neither_http_nor_tables(words: str, tmp_path: Path) -> None:
    heavy = ("httpx", "rich", "msgspec", "pvc_core.model", "lxml", "falcon")
    script = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('LOADED', [m for m in {heavy!r} if m in sys.modules], file=sys.stderr))\n"
        "from pvc_cli.main import main\n"
        "sys.argv[0] = 'pvc'\n"
        "main()"
    )
    argv = [sys.executable, "-c", script, *words.split()]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, env={"HOME": str(tmp_path)})
    assert "LOADED []" in ran.stderr


# ------------------------------------------------------------------ what is written down here and in the API


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (cli_views.VmView, views.VmView),
        (cli_views.NodeView, views.NodeView),
        (cli_views.DrainView, views.DrainView),
        (cli_views.PauseView, Pause),
        (cli_views.MaintenanceView, maintenance_views.MaintenanceView),
        (cli_views.MaintenanceOutcome, maintenance_views.MaintenanceOutcome),
        (cli_views.MovingVm, views.MovingVm),
        (cli_views.WaitingVm, views.WaitingVm),
        (cli_views.ClusterStatus, views.ClusterStatus),
        (cluster_notify.NotificationTest, NotificationTest),
        (cluster_notify.NotificationAnswer, NotificationAnswer),
        (plan_views.PlanStep, Step),
        (plan_views.PlanStay, Stay),
        (plan_views.PlanView, PlanDocument),
        (plan_views.BalanceView, BalanceDocument),
        (plan_views.PlanProgress, views.PlanProgress),
        (plan_views.PlanProgressStep, views.PlanStepView),
        (plan_views.StrandedVm, Stranded),
        (plan_views.NodeLoss, NodeLoss),
        (plan_views.CapacityView, Capacity),
        (cli_views.SettingsView, views.SettingsView),
        (cli_views.SettingsOutcome, views.SettingsOutcome),
        (cli_views.PluginView, plugin_answers.PluginView),
        (cli_views.PluginOnNode, plugin_answers.PluginOnNode),
        (cli_views.PluginTrouble, PluginTrouble),
        (cli_views.DriverView, plugin_answers.DriverView),
        (cli_views.OptionView, plugin_answers.OptionView),
        (cli_views.VmInfo, views.VmInfo),
        (cli_views.VmRule, views.VmRuleView),
        (cli_views.VmVolume, views.VmVolumeView),
        (cli_views.UnfinishedVolume, volume_views.UnfinishedVolumeView),
        (cli_views.RuleView, views.RuleView),
        (cli_views.RuleOutcome, views.RuleOutcome),
        (fence_views.FenceDeviceView, fence_answers.FenceDeviceView),
        (fence_views.FenceAgentView, fence_answers.FenceAgentView),
        (fence_views.CheckedDeviceView, fence_answers.CheckedDeviceView),
        (storage_commands.StorageBackendView, storage_views.StorageBackendView),
        (storage_commands.StorageOnNode, storage_views.StorageOnNode),
        (task_following.TaskView, task_records.TaskView),
        (cli_views.EventView, Event),
        (cli_views.TokenView, token_views.TokenView),
        (cli_views.Decision, Decision),
        (cli_views.Ranked, Ranked),
        (cli_views.Rejection, Rejection),
    ],
    ids=lambda kind: kind.__name__,
)
def test_the_fields_that_are_read_are_fields_that_are_sent(ours: type, theirs: type) -> None:
    assert set(ours.__annotations__) <= set(getattr(theirs, "__struct_encode_fields__", theirs.__annotations__))


def test_states_roles_and_limits_are_the_same_on_both_sides() -> None:
    assert set(MOOD_OF_STATE) == set(ShownVmState.__args__)
    assert set(ROLES) == set(bodies.Role.__args__)
    assert client.PREFIX == API_PREFIX
    assert following.HOLD_S <= client.MAX_HOLD_S == MAX_WAIT_S
