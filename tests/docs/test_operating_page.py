# SPDX-License-Identifier: Apache-2.0
"""The page on operating lists every key of the configuration and every option of a URL, and its files are valid."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from pages import ROOT, blocks, plain, rows, table

from pvc_core.configuration import Configuration, load_configuration
from pvc_core.documented_fields import documented_fields
from pvc_plugins.hypervisors.libvirt_driver import options as libvirt_options
from pvc_plugins.stores.embedded import SqliteOptions
from pvc_plugins.stores.zookeeper_options import ZooKeeperOptions

PAGE = ROOT / "docs/operating.md"


def keys() -> Iterator[tuple[str, str]]:
    """Every key of the configuration file with its default as TOML writes it."""
    for section in msgspec.structs.fields(Configuration):
        if section.name == "plugin":
            continue  # its keys are the plugins' own
        for field in msgspec.structs.fields(section.type):
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory
            yield f"{section.name}.{field.name}", as_toml(default() if callable(default) else default)


def as_toml(value: object) -> str:
    if value is msgspec.NODEFAULT:
        return "(required)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return "[]"
    return str(value)


def test_every_key_is_listed_with_its_default() -> None:
    assert [(plain(row[0]), plain(row[1])) for row in table(PAGE, "keys")] == list(keys())


def test_every_key_says_what_it_means() -> None:
    assert all(row[2] for row in table(PAGE, "keys"))


@pytest.mark.parametrize(
    "block", [b for b in blocks(PAGE) if b.language == "toml"], ids=lambda b: b.text.split("\n")[0]
)
def test_examples_of_the_configuration_are_accepted(block: object, tmp_path: Path) -> None:
    text = block.text  # type: ignore[attr-defined]
    if "[cluster]" not in text:
        text = '[cluster]\nstore = "sqlite:///x.db"\n' + text
    assert tomllib.loads(text)
    (tmp_path / "pvc.toml").write_text(text)
    load_configuration(str(tmp_path / "pvc.toml"))


def test_every_option_of_a_store_is_listed_with_its_default() -> None:
    listed = {plain(row[0].replace(": `", " ").strip("`")): plain(row[1]) for row in table(PAGE, "store options")}
    expected = {}
    for scheme, struct in (("zookeeper", ZooKeeperOptions), ("sqlite", SqliteOptions)):
        for field in msgspec.structs.fields(struct):
            default = field.default
            written = str(default).lower() if isinstance(default, bool) else str(default)
            expected[f"{scheme} {field.name}"] = f"{default:g}" if isinstance(default, float) else written
    assert listed == expected


def test_every_option_of_libvirt_is_listed() -> None:
    text = PAGE.read_text().partition("Other ways are options of the hypervisor's URL")[2].partition("\n## ")[0]
    fields = [name for name in libvirt_options.LibvirtOptions.__dataclass_fields__ if name != "uri"]
    assert [plain(row[0]) for row in rows(text)] == fields


def test_the_sections_of_the_configuration_document_their_fields() -> None:
    """A field of which the code says nothing is at least on the page."""
    listed = {plain(row[0]) for row in table(PAGE, "keys")}
    for section in msgspec.structs.fields(Configuration):
        if section.name != "plugin":
            assert {f"{section.name}.{name}" for name in documented_fields(section.type)} <= listed
