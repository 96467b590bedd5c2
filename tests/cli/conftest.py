# SPDX-License-Identifier: Apache-2.0
"""The command as a person meets it: words in, stdout, stderr and an exit status out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from click.testing import CliRunner

from pvc_cli.client import Api
from pvc_cli.main import cli
from pvc_cli.session import Session

Handler = Callable[[httpx.Request], httpx.Response]


@dataclass(frozen=True)
class Ran:
    """What one invocation did."""

    status: int
    out: str
    err: str


class Run(Protocol):
    """Runs `pvc` with these words."""

    def __call__(self, *words: str, answers: Handler | None = None, stdin: str = "", **environment: str) -> Ran: ...


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home directory."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def run(home: Path) -> Run:
    """Run `pvc`; with `answers`, against an HTTP API that is that function."""

    def run(*words: str, answers: Handler | None = None, stdin: str = "", **environment: str) -> Ran:
        def opened(_session: Session) -> Api:
            assert answers is not None
            return Api(httpx.Client(transport=httpx.MockTransport(answers), base_url="https://pvc"), "https://pvc")

        clean: Mapping[str, str | None] = {
            **dict.fromkeys(("XDG_CONFIG_HOME", "PVC_API_URL", "PVC_API_TOKEN", "PVC_API_CA", "PVC_API_INSECURE")),
            "HOME": str(home),
            "PVC_CONFIG": str(home / "no-such-pvc.toml"),
            **environment,
        }
        session = Session(opener=opened if answers else None, poll_s=0)
        result = CliRunner().invoke(cli, list(words), input=stdin, env=clean, obj=session)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


def answering(**documents: Any) -> Handler:
    """An API that answers by method and path, such as `GET_vm_web1={...}`; anything else is a 404."""

    def handler(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1/").replace("/", "_").replace("-", "_")
        found = documents.get(f"{request.method}_{path}")
        if found is None:
            return httpx.Response(404, json={"code": "not_found", "detail": f"nothing at {request.url.path}"})
        return found if isinstance(found, httpx.Response) else httpx.Response(200, json=found)

    return handler
