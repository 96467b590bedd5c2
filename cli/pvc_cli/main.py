# SPDX-License-Identifier: Apache-2.0
"""main: the `pvc` command: its groups, and the one place where an error becomes a line and an exit status.

Groups are imported when they are named. Everything that can go wrong ends in `RootGroup.main`, so that every
command reports errors, Ctrl-C and a closed pipe in the same way.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import click

from pvc_cli.exit_codes import DONE, FAILED, INTERRUPTED, READER_GONE, USAGE, epilogue
from pvc_cli.lazy import LazyGroup
from pvc_cli.output import Output, is_coloured
from pvc_cli.references import ConnectionReference
from pvc_cli.session import Session, output_option, pass_session
from pvc_core.errors import PluginError, PvcError

GROUPS = {
    "vm": "pvc_cli.vm_commands:vm",
    "node": "pvc_cli.node_commands:node",
    "cluster": "pvc_cli.cluster_commands:cluster",
    "storage": "pvc_cli.storage_commands:storage",
    "task": "pvc_cli.task_commands:task",
    "simulate": "pvc_cli.simulate_commands:simulate",
    "events": "pvc_cli.event_commands:events",
    "plugin": "pvc_cli.plugin_commands:plugin",
    "token": "pvc_cli.token_commands:token",
    "connection": "pvc_cli.connection_commands:connection",
    "completion": "pvc_cli.completion_commands:completion",
    "version": "pvc_cli.version_command:version",
}


class ReaderGoneError(Exception):
    """Nobody reads stdout any more. Not an `OSError`: click would end the process with a status of its own."""


class RootGroup(LazyGroup):
    """The root: runs a command and ends the process with the status that `pvc_cli.exit_codes` documents."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        session = extra.pop("obj", None) or Session()
        extra.pop("standalone_mode", None)
        try:
            result = _run(
                lambda: super(RootGroup, self).main(args, prog_name, standalone_mode=False, obj=session, **extra),
                session,
            )
        finally:
            session.close()
        sys.exit(result)


def _run(command: Callable[[], Any], session: Session) -> int:
    """Run to an exit status; every expected end has its own."""
    try:
        result = command()
        sys.stdout.flush()
    except (BrokenPipeError, ReaderGoneError):
        # What is still buffered has no reader; without this Python would complain about it on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except OSError as error:  # what is read is checked where it is read; this is the output
        if session.plugin:
            return _failed(session, PluginError(session.plugin, f"{type(error).__name__}: {error}"))
        _complain(f"the output cannot be written: {error.strerror or error}")
        return FAILED
    except click.Abort as error:
        return _interrupted(session, isinstance(error.__cause__, KeyboardInterrupt))
    except KeyboardInterrupt:
        return _interrupted(session, by_signal=True)
    except click.ClickException as error:
        return _misused(session, error)
    except PvcError as error:
        return _failed(session, error)
    except Exception as error:
        if not session.plugin:
            raise
        return _failed(session, PluginError(session.plugin, f"{type(error).__name__}: {error}"))
    return result if isinstance(result, int) else DONE


def _interrupted(session: Session, by_signal: bool) -> int:
    """Say what goes on. `by_signal`: Ctrl-C while working; otherwise a question was left unanswered."""
    if not by_signal:
        _complain("nothing was changed")
        return FAILED
    _complain(f"interrupted; {session.going_on}" if session.going_on else "interrupted")
    return INTERRUPTED


def _misused(session: Session, error: click.ClickException) -> int:
    """The command line makes no sense: say what is wrong with it and where help is; a bare group shows its help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return USAGE
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"; see `{context.command_path} --help`" if context else ""
    problem = " ".join(error.format_message().split())
    _complain(f"{problem.rstrip('.')}{hint}")
    _complain_to_scripts(session, {"code": "usage", "detail": problem})
    return USAGE


def _failed(session: Session, error: PvcError) -> int:
    """The error's sentence, and with -o json its fields on a second line."""
    from pvc_cli.problems import as_document, exit_code_of

    _complain(" ".join(error.sentence().split()))
    _complain_to_scripts(session, as_document(error))
    return exit_code_of(error)


def _complain_to_scripts(session: Session, document: Mapping[str, object]) -> None:
    """With -o json, the last line on stderr is the problem as one line of JSON."""
    if session.output is Output.JSON:
        click.echo(json.dumps(document, ensure_ascii=False, default=str), err=True)


def _complain(sentence: str) -> None:
    """One line on stderr, its first word red on a terminal."""
    coloured = is_coloured(sys.stderr)
    click.echo(f"{click.style('pvc:', fg='red', bold=True)} {sentence}", err=True, color=coloured)


@click.group(
    cls=RootGroup,
    lazy=GROUPS,
    name="pvc",
    epilog=epilogue(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.option(
    "-c",
    "--connection",
    metavar="NAME",
    default="",
    type=ConnectionReference(),
    show_default=False,
    help="Connection to use, see `pvc connection list`; `local` is this machine itself.  [default: the one in use]",
)
@output_option
@click.version_option(
    package_name="pvc", message="%(prog)s %(version)s", help="Show the version of this command and exit."
)
@pass_session
def cli(session: Session, connection: str) -> None:
    """Keep virtual machines running on a cluster of hypervisors.

    Speaks to the cluster's API: over HTTPS through a connection, or directly on a cluster node.
    """
    session.connection = connection


def main() -> NoReturn:
    """The entry point of the `pvc` command."""
    cli.main(prog_name="pvc")
