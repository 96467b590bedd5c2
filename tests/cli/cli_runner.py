# SPDX-License-Identifier: Apache-2.0
"""The command as a person meets it: words in; stdout, stderr and an exit status out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
from click.testing import CliRunner

from pvc_cli.client import Api
from pvc_cli.main import cli
from pvc_cli.session import Session

OWN_VARIABLES = ("XDG_CONFIG_HOME", "PVC_API_URL", "PVC_API_TOKEN", "PVC_API_CA", "PVC_API_INSECURE", "NO_COLOR")


@dataclass(frozen=True)
class Ran:
    """What one invocation did."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What was printed with -o json."""
        return json.loads(self.out)


@dataclass
class Asked:
    """One request as the API got it."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: httpx.Headers


@dataclass
class FakeApi:
    """An API of canned answers, for what a real one cannot be brought to say at a given moment.

    `answers` maps "GET /vm/web1" to a document, a response, an exception, or a list of them to be given one by one
    (the last one again and again). Anything else is a 404.
    """

    answers: dict[str, Any]
    asked: list[Asked] = field(default_factory=list)

    def handle(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().partition("?")[0].removeprefix("/api/v1")
        is_json = "json" in request.headers.get("content-type", "")
        body = json.loads(request.content) if is_json and request.content else request.content or None
        query = dict(parse_qsl(request.url.query.decode()))
        self.asked.append(Asked(request.method, path, query, body, request.headers))
        answer = self.answers.get(f"{request.method} {path}")
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            return problem(404, "not_found", f"nothing at {path}")
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def bodies(self, method: str = "POST") -> list[Any]:
        """What was sent with this method."""
        return [asked.body for asked in self.asked if asked.method == method]


def problem(status: int, code: str, detail: str, **fields: object) -> httpx.Response:
    """An error as the API answers it."""
    document = {"status": status, "code": code, "detail": detail, **fields}
    return httpx.Response(status, json=document, headers={"content-type": "application/problem+json"})


@dataclass(frozen=True)
class Cli:
    """`pvc` for one test: with an empty home directory, and no cluster unless one is given."""

    home: Path

    def __call__(self, *words: str, api: FakeApi | None = None, stdin: str | bytes = "", **environment: str) -> Ran:
        session = Session(opener=_opener(api) if api else None, poll_s=0)
        clean: dict[str, str | None] = {
            **dict.fromkeys(OWN_VARIABLES),
            "HOME": str(self.home),
            "PVC_CONFIG": str(self.home / "no-pvc.toml"),
            **environment,
        }
        result = CliRunner().invoke(cli, list(words), input=stdin, env=clean, obj=session, prog_name="pvc")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)


def _opener(api: FakeApi) -> Callable[[Session], Api]:
    def opened(_session: Session) -> Api:
        return Api(httpx.Client(transport=httpx.MockTransport(api.handle), base_url="https://hv1"), "https://hv1")

    return opened


def a_vm(name: str = "web1", **fields: object) -> dict[str, Any]:
    """A VM as the API shows it: running on its home."""
    return {
        "uuid": "11111111-2222-4333-8444-555555555555",
        "name": name,
        "state": "running",
        "node": "hv1",
        "home": "hv1",
        "target": "",
        "memory_mib": 512,
        "vcpus": 1,
        "held": False,
        "kept_off": "",
        "permanent": False,
        "cancelling": False,
        "reason": "the guest runs",
        "changed_at": "2026-01-02T03:04:05Z",
        "transition": 3,
        "version": 7,
        "node_limit": [],
        "node_selector": "",
        "node_autostart": False,
        "migration_method": "none",
        "max_downtime_ms": 300,
        "recovery_policy": "restart",
        "priority": 0,
        "shutdown_timeout_s": None,
        "on_poweroff": "restart",
        "start_failures": None,
        "relocations": None,
        "failed_on": [],
        "held_until": "home",
        "tags": [],
        "profile": "",
        "limit_violated": False,
        "progress_pct": None,
        "problem": "",
        "rules": [],
        **fields,
    }


def an_outcome(vm: dict[str, Any], watch: str = "", **fields: object) -> dict[str, Any]:
    """The answer to a command on a VM."""
    answer = {"vm": vm, "changed": True, "reason": "as requested", "watch": watch, "decision": None, "warnings": []}
    return {**answer, **fields}


def a_node(name: str = "hv1", **fields: object) -> dict[str, Any]:
    """A node as the API shows it: alive, ready, empty."""
    return {
        "name": name,
        "mode": "ready",
        "liveness": "alive",
        "coordinator": True,
        "maintenance": False,
        "pause": None,
        "fenced": False,
        "labels": {},
        "address": name,
        "watchdog_s": 0.0,
        "reason": "",
        "changed_at": "",
        "version": 1,
        "memory_total_mib": 4096,
        "memory_available_mib": 3072,
        "memory_reserved_mib": 1024,
        "vcpus_reserved": 2,
        "cores": 4,
        "load_1m": 0.5,
        "vms": 2,
        "hypervisor": "qemu",
        "hypervisor_version": "9.0",
        "hypervisor_connected": True,
        "report_stale": False,
        "daemon_version": "0.1.0",
        "drain": None,
        "fence": None,
        "unknown_domains": {},
        **fields,
    }


def a_drain(total: int, remaining: int = 0, **fields: object) -> dict[str, Any]:
    """How far a drain is."""
    empty: dict[str, Any] = {"moving": [], "waiting": [], "stayed": [], "started_at": "", "finished_at": ""}
    return {"total": total, "remaining": remaining, **empty, **fields}
