# SPDX-License-Identifier: Apache-2.0
"""url: takes a store's URL apart and turns its options into a typed struct, or says which option is wrong.

`urllib` splits one host, not a list of them, and reads '+' in a password as a space; hence our own dozen
lines. An error never repeats the whole URL, which may hold a password.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote

import msgspec

from pvc_core.errors import InvalidInput

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """The parts of `scheme://authority/path?name=value&...`, percent-decoded but for the authority."""

    scheme: str
    authority: str
    path: str
    options: dict[str, str]


def parse_url(url: str, scheme: str) -> StoreUrl:
    """Split a URL; raises `InvalidInput` when it has another scheme or an option twice."""
    found, separator, rest = url.partition("://")
    if not separator or found != scheme:
        raise InvalidInput("store", "is not a URL of this driver", found, (f"{scheme}://...",))
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    options: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name in options:
            raise InvalidInput(name, f"is given twice in the {scheme}:// URL")
        options[name] = unquote(value)
    return StoreUrl(scheme, authority, unquote(slash + path), options)


def typed_options(url: StoreUrl, kind: type[OptionsT]) -> OptionsT:
    """The URL's options as `kind`, whose fields all have defaults. Raises `InvalidInput` naming the option."""
    allowed = kind.__struct_fields__
    for name, value in url.options.items():
        if name not in allowed:
            raise InvalidInput(name or "option", f"is not an option of {url.scheme}://", allowed=allowed)
        try:
            msgspec.convert({name: value}, kind, strict=False)
        except msgspec.ValidationError as error:
            problem = str(error).partition(" - at ")[0]
            raise InvalidInput(name, problem, value) from error
    return msgspec.convert(url.options, kind, strict=False)
