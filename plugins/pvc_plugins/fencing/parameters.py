# SPDX-License-Identifier: Apache-2.0
"""parameters: what of a device's parameters an executable is given, on which lines, and what is never given.

The record of a device comes from the store, and the executable runs as root on whatever node leads. So a record may
say where a device is and how to log in, never what a node runs, writes or takes for the truth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pvc_core.fence_secrets import MASK, without_secrets

EXECUTABLE = "agent"
"""The parameter that names the executable; all others go to it."""
SECRETS = (
    "password",
    "passwd",
    "snmp_priv_passwd",
    "community",
    "hexadecimal_kg",
    "access_key",
    "secret_key",
    "apikey",
    "token",
    "key",
)

_EXECUTABLE_NAME = re.compile(r"fence_[A-Za-z0-9_]+")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_OURS = frozenset({"action", "option", "method", "nodename", "help", "usage", "version", "quiet", "verbose", "plugs"})
_RUNS_SOMETHING = re.compile(
    r"(?!api_path$).*(_path|_script)$|exec|sudo|use_sudo|ssh_options|openrc|runonfail|runonwarn|cmd_prompt|command_prompt"
)
_WRITES_SOMETHING = frozenset({"debug", "debug_file", "verbose_level", "boto3_debug", "logfile", "cookie_file"})
_LIES = frozenset({"missing_as_off", "status_file"})


class UnusableDevice(ValueError):
    """Why a device cannot be asked; a sentence without a value."""


def executable_name(device: Mapping[str, str]) -> str:
    """Which executable drives the device. Raises `UnusableDevice`."""
    name = device.get(EXECUTABLE, "")
    if not name:
        raise UnusableDevice(f"the parameter {EXECUTABLE} must name an executable, such as fence_ipmilan")
    if not _EXECUTABLE_NAME.fullmatch(name):
        raise UnusableDevice(f"the parameter {EXECUTABLE} must be a name such as fence_ipmilan, without a folder")
    return name


def refusal(name: str) -> str:
    """Why a parameter is not given to an executable; "" when it is."""
    plain = name.lower().replace("-", "_")
    if not _NAME.fullmatch(name):
        return "must have a name of letters, digits, _ and -"
    if plain in _OURS:
        return "is set by PVC itself"
    if _RUNS_SOMETHING.fullmatch(plain):
        return "is not taken from a device: it would choose what a node runs"
    if plain in _WRITES_SOMETHING:
        return "is not taken from a device: its output could hold secrets"
    if plain in _LIES:
        return "is not taken from a device: what is missing would count as off"
    return ""


def input_of(action: str, device: Mapping[str, str]) -> bytes:
    """What the executable reads: `name=value`, one per line, the action first. Raises `UnusableDevice`."""
    lines = [f"action={action}"]
    for name, value in sorted(device.items()):
        if name == EXECUTABLE:
            continue
        if problem := refusal(name):
            raise UnusableDevice(f"the parameter {name} {problem}")
        if not value.isprintable():
            raise UnusableDevice(f"the parameter {name} is not one line of printable characters")
        lines.append(f"{name}={_quoted(value)}")
    return "".join(f"{line}\n" for line in lines).encode()


def _quoted(value: str) -> str:
    """Agents strip blanks around a line, then one pair of quotes around a value: what would be lost is protected."""
    is_cut = value != value.strip() or (len(value) > 1 and value[0] == value[-1] == '"')
    return f'"{value}"' if is_cut else value


def masked(text: str, device: Mapping[str, str]) -> str:
    """What an executable said, without the value of any secret it was given, nor of what it did not know."""
    known = without_secrets(text, device, [name for name in device if name.replace("-", "_") in SECRETS])
    return re.sub(r"(Ignoring unknown option '?[^=']*=).*", rf"\g<1>{MASK}", known)
