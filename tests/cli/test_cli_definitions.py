# SPDX-License-Identifier: Apache-2.0
"""Definitions on their way from a file or an editor to the API, and what is asked before something is lost."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx
import pytest
from cli_runner import Cli, FakeApi, a_vm, an_outcome, problem

from pvc_cli.definition_files import MAX_DEFINITION_BYTES
from pvc_core import domain_xml

OLD = "<domain>\n  <name>web1</name>\n  <vcpu>1</vcpu>\n</domain>\n"
NEW = OLD.replace("<vcpu>1<", "<vcpu>2<")


def the_api(**more: object) -> FakeApi:
    tagged = httpx.Response(200, json=a_vm(), headers={"etag": '"7"'})
    answers = {
        "GET /vm/web1": tagged,
        "GET /vm/web1/definition": xml(OLD),
        "PUT /vm/web1": an_outcome(a_vm(), reason="the definition is replaced"),
    }
    return FakeApi({**answers, **more})


def xml(text: str) -> httpx.Response:
    return httpx.Response(200, text=text, headers={"content-type": "text/xml; charset=utf-8"})


@pytest.fixture
def new(tmp_path: Path) -> str:
    path = tmp_path / "new.xml"
    path.write_text(NEW)
    return str(path)


def an_editor(tmp_path: Path, script: str) -> str:
    path = tmp_path / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_dump_prints_the_definition_as_it_is(run: Cli) -> None:
    assert run("vm", "dump", "web1", api=the_api()).out == OLD


def test_modify_shows_the_difference_and_replaces_the_version_that_was_seen(run: Cli, new: str) -> None:
    api = the_api()
    ran = run("vm", "modify", "web1", new, "-y", api=api)
    assert ran.status == 0
    assert "-  <vcpu>1</vcpu>\n+  <vcpu>2</vcpu>\n" in ran.err
    assert ran.out == "web1 is running on hv1: the definition is replaced\n"
    put = api.asked[-1]
    assert (put.method, put.body, put.headers["if-match"]) == ("PUT", {"definition": NEW}, '"7"')


def test_modify_does_not_touch_what_somebody_else_has_changed_meanwhile(run: Cli, new: str) -> None:
    api = the_api(**{"GET /vm/web1/definition": [xml(OLD), xml(OLD.replace("web1", "other"))]})
    ran = run("vm", "modify", "web1", new, "-y", api=api)
    assert ran.status == 5
    assert "changed by somebody else" in ran.err
    assert api.bodies("PUT") == []


def test_modify_with_the_same_definition_asks_and_sends_nothing(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "same.xml").write_text(OLD)
    api = the_api()
    assert run("vm", "modify", "web1", str(tmp_path / "same.xml"), api=api).out == "web1: the definition is the same\n"
    assert api.bodies("PUT") == []


def test_modify_and_undefine_do_nothing_unasked_where_nobody_can_be_asked(run: Cli, new: str) -> None:
    api = the_api()
    for words in (["vm", "modify", "web1", new], ["vm", "undefine", "web1"]):
        ran = run(*words, api=api)
        assert ran.status == 2
        assert "--yes" in ran.err
    assert {asked.method for asked in api.asked} == {"GET"}


def test_modify_takes_a_file_or_the_editor(run: Cli, new: str) -> None:
    assert run("vm", "modify", "web1", api=the_api()).status == 2
    assert run("vm", "modify", "web1", new, "--editor", api=the_api()).status == 2


def test_what_was_edited_is_sent(run: Cli, tmp_path: Path) -> None:
    editor = an_editor(tmp_path, "sed -i 's/<vcpu>1</<vcpu>2</' \"$1\"; touch -d '+2 seconds' \"$1\"")
    api = the_api()
    ran = run("vm", "modify", "web1", "--editor", "-y", api=api, VISUAL=editor)
    assert ran.status == 0, ran.err
    assert api.bodies("PUT") == [{"definition": NEW}]


def test_what_was_edited_survives_a_refusal(run: Cli, tmp_path: Path) -> None:
    editor = an_editor(tmp_path, "echo '<broken' > \"$1\"; touch -d '+2 seconds' \"$1\"")
    api = the_api(**{"PUT /vm/web1": problem(422, "invalid_input", "definition: is not well-formed XML")})
    ran = run("vm", "modify", "web1", "--editor", "-y", api=api, VISUAL=editor, TMPDIR=str(tmp_path))
    assert ran.status == 2
    kept = next(line.rpartition(" ")[2] for line in ran.err.splitlines() if line.startswith("what you edited is kept"))
    assert Path(kept).read_text() == "<broken\n"
    Path(kept).unlink()


def test_an_editor_that_fails_changes_nothing(run: Cli, tmp_path: Path) -> None:
    api = the_api()
    ran = run("vm", "modify", "web1", "--editor", "-y", api=api, VISUAL=an_editor(tmp_path, "exit 3"))
    assert ran.status == 2
    assert "web1 is unchanged" in ran.err
    assert api.bodies("PUT") == []


def test_undefine_forgets_the_vm_that_was_looked_at(run: Cli) -> None:
    vm = a_vm(state="stopped")
    api = FakeApi({"GET /vm/web1": vm, f"DELETE /vm/{vm['uuid']}": an_outcome(vm)})
    assert run("vm", "undefine", "web1", "-y", api=api).out == "web1 is undefined\n"


def test_undefine_by_force_is_asked_for_and_what_it_means_is_said(run: Cli) -> None:
    vm = a_vm(state="migrating", node="hv1", target="hv2")
    reason = "web1 is undefined by force; its guest may still run on hv1 or hv2 and write to its disks"
    api = FakeApi({"GET /vm/web1": vm, f"DELETE /vm/{vm['uuid']}": an_outcome(vm, reason=reason)})
    assert run("vm", "undefine", "web1", "--force", api=api).status == 2
    assert {asked.method for asked in api.asked} == {"GET"}
    assert run("vm", "undefine", "web1", "--force", "-y", api=api).out == f"{reason}\n"
    assert api.asked[-1].method == "DELETE"
    assert api.asked[-1].query == {"force": "true"}


@pytest.mark.parametrize("as_stdin", [False, True])
def test_a_huge_file_is_refused_without_a_request(run: Cli, tmp_path: Path, as_stdin: bool) -> None:
    text = "x" * (MAX_DEFINITION_BYTES + 1)
    (tmp_path / "huge.xml").write_text(text)
    api = FakeApi({})
    ran = run("vm", "define", "-" if as_stdin else str(tmp_path / "huge.xml"), api=api, stdin=text if as_stdin else "")
    assert ran.status == 2
    assert str(MAX_DEFINITION_BYTES) in ran.err
    assert api.asked == []


def test_the_largest_definition_is_the_same_here_and_in_the_core() -> None:
    assert MAX_DEFINITION_BYTES == domain_xml.MAX_DEFINITION_BYTES


def test_what_is_not_text_or_not_there_is_named(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "binary.xml").write_bytes(b"<domain>\xff\xfe</domain>")
    assert "is not UTF-8 text" in run("vm", "define", str(tmp_path / "binary.xml"), api=FakeApi({})).err
    missing = run("vm", "define", str(tmp_path / "missing.xml"), api=FakeApi({}))
    assert missing.status == 2
    assert "No such file" in missing.err
    assert run("vm", "define", str(tmp_path), api=FakeApi({})).status == 2


def test_a_byte_order_mark_is_not_part_of_the_definition(run: Cli) -> None:
    api = FakeApi({"POST /vm": an_outcome(a_vm())})
    run("vm", "define", "-", api=api, stdin=b"\xef\xbb\xbf" + OLD.encode())
    assert api.bodies()[0]["definition"] == OLD


def test_rename(run: Cli) -> None:
    api = FakeApi({"POST /vm/web1/rename": an_outcome(a_vm("web2", state="stopped"), reason="renamed from web1")})
    assert run("vm", "rename", "web1", "web2", api=api).out == "web2 is stopped on hv1: renamed from web1\n"
    assert api.bodies() == [{"name": "web2"}]
