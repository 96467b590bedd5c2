# SPDX-License-Identifier: Apache-2.0
"""yaml_text: a text that a person wrote as YAML, which JSON is too, as plain data."""

from __future__ import annotations

from typing import Any

import yaml

from pvc_core.errors import InvalidInput


def read_yaml(text: str, field: str, value: str = "") -> Any:
    """What the text says. Raises `InvalidInput` naming the field, and the value if one is given."""
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise InvalidInput(field, f"is not YAML: {' '.join(str(error).split())}", value) from error
