# SPDX-License-Identifier: Apache-2.0
"""What the lab says about the machine that it should run on."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from pvc_lab import packages
from pvc_lab.packages import PackagesError, daemon_starts_forbidden, missing


@pytest.mark.lab
def test_only_what_is_not_installed_is_missing() -> None:
    assert missing(["bash", "no-such-package"]) == ["no-such-package"]


@pytest.mark.lab
def test_any_java_runtime_will_do() -> None:
    assert missing(["default-jre-headless"]) == []


@pytest.mark.lab
def test_a_package_that_another_provides_is_not_missing() -> None:
    assert missing(["awk"]) == []  # virtual: mawk or gawk provides it


def test_a_machine_without_dpkg_is_told_what_the_lab_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackagesError, match="Debian"):
        missing()


def test_packages_are_installed_by_root_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "missing", lambda _packages: ["cpio"])
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(PackagesError, match="only root can install cpio"):
        packages.install()


def test_what_is_missing_is_installed_after_one_update(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(packages, "missing", lambda _packages: ["cpio", "iproute2"])
    monkeypatch.setattr(packages, "apt_get", lambda *arguments: ran.append(" ".join(arguments)))
    monkeypatch.setattr(packages, "daemon_starts_forbidden", nullcontext)
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert packages.install() == ["cpio", "iproute2"]
    assert ran == ["update", "install --yes --no-install-recommends cpio iproute2"]


@pytest.mark.parametrize("before", [None, "#!/bin/sh\nexit 0\n"])
def test_the_policy_against_daemons_is_gone_afterwards(tmp_path: Path, before: str | None) -> None:
    policy = tmp_path / "policy-rc.d"
    if before is not None:
        policy.write_text(before)
    with daemon_starts_forbidden(policy):
        assert "exit 101" in policy.read_text()
        assert policy.stat().st_mode & 0o111
    assert (policy.read_text() if policy.exists() else None) == before


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PVC_LAB_CACHE", str(tmp_path))
    assert packages.cache_dir() == tmp_path
