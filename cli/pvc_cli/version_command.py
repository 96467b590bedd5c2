# SPDX-License-Identifier: Apache-2.0
"""version_command: `pvc version`: what is installed here; the cluster's versions are in `pvc cluster status`."""

from __future__ import annotations

import click

from pvc_cli.output import emit
from pvc_cli.session import Session, output_option, pass_session


@click.command()
@output_option
@pass_session
def version(session: Session) -> None:
    """Show the version of this command. It asks no cluster."""
    from importlib.metadata import version as installed

    number = installed("pvc")
    emit(session.output, {"version": number}, lambda: f"pvc {number}", lambda: [number])
