# SPDX-License-Identifier: Apache-2.0
"""settings_page: `docs/settings.md`, written from the settings themselves: name, range, default, what it means.

The sentence under each field of `Settings` is its documentation. To write the page again:

    python -m pvc_core.settings_page > docs/settings.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from pvc_core.documented_fields import DocumentedField, described_fields
from pvc_core.model import NOT_SETTINGS, Settings

INTRODUCTION = """\
# Settings

<!-- Generated from pvc_core/model.py by: python -m pvc_core.settings_page > docs/settings.md -->

Settings hold for the whole cluster and stand in its store. A change takes effect with the next decision; nothing is
restarted. What concerns one machine is in its [configuration file](operating.md#the-configuration-file), what
concerns one VM in its metadata.

```console
$ pvc cluster settings
$ pvc cluster settings max_parallel_migrations=4 default_selector=mem:2,load:1
$ pvc cluster settings --reset max_parallel_migrations --reset default_selector
```

A name or value that is not acceptable is refused with what would be, and nothing is changed. `--reset` takes a setting
back to its default.

Plugins bring settings of their own. They are called by the plugin and the setting, stand in the same list, and are
changed and reset in the same way: `pvc cluster settings acme.weight=2`. What they mean says the plugin. Everybody with
a token can read settings; passwords, and whatever differs between machines, belong in the
[section of the plugin](operating.md#what-plugins-need-to-know) in a machine's configuration file.

| setting | values | default | |
| --- | --- | --- | --- |
"""


def settings() -> Iterator[DocumentedField]:
    """All settings, in the order of the class."""
    return described_fields(Settings, without=NOT_SETTINGS)


def page() -> str:
    """The whole page."""
    rows = [f"| `{s.name}` | {s.values} | `{s.default}` | {s.meaning} |\n" for s in settings()]
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(page())
