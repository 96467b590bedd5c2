# SPDX-License-Identifier: Apache-2.0
"""ceph_admin: asks a lab's Ceph cluster as its administrator, over one connection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pvc_lab.starting import Startable

_ANSWER_S = "10"


class CephCommandError(RuntimeError):
    """The cluster refused a command; `code` is the errno."""

    def __init__(self, command: str, code: int, said: str) -> None:
        super().__init__(f"{command}: {said or 'no explanation'} (errno {code})")
        self.code = code


class CephAdmin(Startable):
    """A connection as `client.admin`, opened by the first question; every question is answered in time or fails."""

    def __init__(self, conf_path: Path) -> None:
        self._conf_path = conf_path
        self._rados: Any = None

    def start(self) -> None:
        """Connect; TimeoutError when the cluster does not answer."""
        import rados

        timeouts = dict.fromkeys(("client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout"), _ANSWER_S)
        connection = rados.Rados(conffile=str(self._conf_path), conf=timeouts)
        try:
            connection.connect()
        except rados.TimedOut as error:
            connection.shutdown()
            raise TimeoutError(f"Ceph's monitors do not answer: {error}") from error
        self._rados = connection

    def stop(self) -> None:
        """Disconnect."""
        if self._rados is not None:
            self._rados.shutdown()
            self._rados = None

    @property
    def rados(self) -> Any:
        """The connection itself."""
        if self._rados is None:
            self.start()
        return self._rados

    def command(self, prefix: str, to: str = "mon", data: bytes = b"", **arguments: object) -> Any:
        """What a monitor or the manager (`to="mgr"`) answers: parsed JSON, or its text when there is none.

        An argument whose name is a word of Python's ends with an underscore.
        """
        ask = getattr(self.rados, f"{to}_command")
        named = {name.rstrip("_"): value for name, value in arguments.items()}
        code, output, said = ask(json.dumps({"prefix": prefix, "format": "json", **named}), data)
        if code:
            raise CephCommandError(prefix, abs(code), said)
        text = output.decode().strip()
        return json.JSONDecoder().raw_decode(text)[0] if text else said
