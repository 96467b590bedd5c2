# SPDX-License-Identifier: Apache-2.0
"""plugin_calls: the one place where foreign code is called, so that whatever it does becomes a `PluginError`.

A plugin may raise anything, `SystemExit` included; none of it may end a placement, a recovery or a daemon.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import structlog

from pvc_core.errors import PluginError

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def ask(plugin: str, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The plugin's answer. Raises `PluginError` naming it, with what it raised as the cause.

    A `PluginError` about this very plugin, from a check of its answer, passes as it is.
    """
    try:
        return question(*args, **kwargs)
    except KeyboardInterrupt:
        raise
    except PluginError as error:
        if error.plugin == plugin:
            raise
        raise PluginError(plugin, f"PluginError: {error}") from error
    except BaseException as error:
        raise PluginError(plugin, traceback.format_exception_only(error)[-1].strip()) from error


class PluginCalls:
    """How plugins are called at run time: whatever one does, its caller gets an answer or a `PluginError`."""

    def ask(self, plugin: str, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The plugin's answer. Raises `PluginError`, as `ask`."""
        return ask(plugin, question, *args, **kwargs)


def log_failure(failure: PluginError) -> None:
    """Log what a plugin did wrong, with the traceback of what it raised."""
    log.warning("plugin_failed", plugin=failure.plugin, problem=failure.problem, exc_info=failure.__cause__)
