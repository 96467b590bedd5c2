# SPDX-License-Identifier: Apache-2.0
"""media: JSON in and out through msgspec: no forms, no multipart, and no body over a limit, but for `streams`."""

from __future__ import annotations

import falcon
import falcon.media
import msgspec

MAX_BODY_BYTES = 1024 * 1024
_ENCODER = msgspec.json.Encoder()


def json_handlers() -> falcon.media.Handlers:
    """Falcon's media handlers for an API that speaks JSON only."""
    return falcon.media.Handlers({falcon.MEDIA_JSON: falcon.media.JSONHandler(dumps=_ENCODER.encode, loads=_loads)})


def _loads(text: bytes | str) -> object:
    """Decode; Falcon answers any `ValueError` as malformed JSON."""
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_chunked(req: falcon.Request) -> bool:
    """Whether the body comes in chunks, and nobody says how large it will be."""
    return "chunked" in (req.get_header("Transfer-Encoding") or "").lower()


def check_body_size(req: falcon.Request) -> None:
    """Refuse a body that is too large or does not say how large it is, before any of it is read."""
    if is_chunked(req):
        raise falcon.HTTPLengthRequired(description="a request body needs a Content-Length")
    if (req.content_length or 0) > MAX_BODY_BYTES:
        raise falcon.HTTPContentTooLarge(
            description=f"the body has {req.content_length} bytes, the limit is {MAX_BODY_BYTES}"
        )
