# SPDX-License-Identifier: Apache-2.0
"""completion_commands: `pvc completion`: the script that teaches a shell to complete `pvc` on TAB."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pvc_cli.output import say

SHELLS = {
    "bash": 'eval "$(pvc completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(pvc completion zsh)" in ~/.zshrc, after compinit',
    "fish": "pvc completion fish > ~/.config/fish/completions/pvc.fish",
}


@click.command(
    epilog="\n".join(["\b", "To have it in every shell:", *(f"  {shell:<5} {how}" for shell, how in SHELLS.items())])
)
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    It completes commands and options, and the names of VMs, nodes and connections, which it asks the cluster for.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise RuntimeError(f"click knows no completion for {shell}")
    script = kind(context.find_root().command, {}, "pvc", "_PVC_COMPLETE")
    # `source()` of click's bash class runs bash to check its age first; the text is the same without.
    say(script.source_template % script.source_vars())
