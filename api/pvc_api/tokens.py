# SPDX-License-Identifier: Apache-2.0
"""tokens: API tokens, mirrored from the store so that checking one costs no request, and made and removed there.

A token is `pvc_<name>_<256 random bits>`. Only its SHA-256 is kept, so the secret is shown once. The name inside
finds the one record to compare with, in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import structlog

from pvc_api.authentication import Identity, Role
from pvc_core import layout
from pvc_core.codec import decode, encode
from pvc_core.errors import AlreadyExists, BrokenRecord, Conflict, NotFound, StoreUnavailable
from pvc_core.events import EventKind, Happening
from pvc_core.journal import Journal
from pvc_core.ports import Clock, ClusterStore, Create, Delete, Entry, Op, Subscription
from pvc_core.token_record import TokenRecord

PREFIX = "pvc_"
RANDOM_BYTES = 32
_NO_SUCH_HASH = "0" * 64

log = structlog.get_logger(__name__)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


class TokenBook:
    """The cluster's tokens. Thread-safe."""

    def __init__(self, store: ClusterStore, clock: Clock, journal: Journal | None = None) -> None:
        """`journal` writes the events; without one they have no author."""
        self._store = store
        self._clock = clock
        self._journal = journal or Journal(clock)
        self._records: dict[str, TokenRecord] = {}
        self._subscription: Subscription | None = None

    def start(self) -> None:
        """Begin to mirror the tokens, for `identify`. Raises `StoreUnavailable`."""
        if self._subscription is None:
            self._subscription = self._store.mirror(layout.TOKENS, self._absorb)

    def close(self) -> None:
        """Stop mirroring."""
        if self._subscription is not None:
            self._subscription.cancel()
            self._subscription = None

    def identify(self, secret: str) -> Identity | None:
        """Whose secret this is; None for one that is unknown, removed or expired. No request to the store.

        Raises `StoreUnavailable` before the tokens were read for the first time.
        """
        if self._subscription is None:
            raise StoreUnavailable("the tokens have not been read yet")
        name, _, _random = secret.removeprefix(PREFIX).rpartition("_")
        record = self._records.get(name)
        expected = record.sha256 if record else _NO_SUCH_HASH
        matches = hmac.compare_digest(_hash(secret).encode(), expected.encode())
        if record is None or not matches or self.is_expired(record):
            return None
        return Identity(record.name, record.role)

    def is_expired(self, record: TokenRecord) -> bool:
        """Whether its time is over. One whose expiry cannot be read is."""
        if not record.expires_at:
            return False
        try:
            return _moment(record.expires_at) <= _moment(self._clock.utc_iso())
        except ValueError:
            log.warning("token_expiry_unreadable", token=record.name, expires_at=record.expires_at)
            return True

    def read_all(self) -> tuple[tuple[TokenRecord, ...], tuple[BrokenRecord, ...]]:
        """All tokens by name, and those that do not parse, from the store itself."""
        entries = self._store.get_many([layout.token(name) for name in self._store.children(layout.TOKENS)])
        records: list[TokenRecord] = []
        broken: list[BrokenRecord] = []
        for key in sorted(entries):
            try:
                records.append(decode(entries[key], TokenRecord).value)
            except BrokenRecord as error:
                broken.append(error)
        return tuple(records), tuple(broken)

    def create(self, name: str, role: Role, expires_in_s: int | None = None) -> tuple[TokenRecord, str]:
        """A new token and its secret, which is nowhere else. Raises `AlreadyExists`."""
        secret = f"{PREFIX}{name}_{secrets.token_hex(RANDOM_BYTES)}"
        now = self._clock.utc_iso()
        expires_at = "" if expires_in_s is None else _iso(_moment(now) + timedelta(seconds=expires_in_s))
        record = TokenRecord(name=name, role=role, sha256=_hash(secret), created_at=now, expires_at=expires_at)
        key, data = layout.token(name), encode(record)
        try:
            self._change(Create(key, data), EventKind.TOKEN_CREATED, f"token {name} with role {role}")
        except Conflict as conflict:
            raise AlreadyExists("token", name) from conflict
        self._absorb({key: Entry(key, data, 0)})
        return record, secret

    def remove(self, name: str) -> None:
        """Forget a token, also one that does not parse; it is refused from now on. Raises `NotFound`."""
        key = layout.token(name)
        entry = self._store.get(key)
        if entry is None:
            raise NotFound("token", name, self._store.children(layout.TOKENS))
        self._change(Delete(key, entry.version), EventKind.TOKEN_REMOVED, f"token {name} is refused from now on")
        self._absorb({key: None})

    def _change(self, op: Op, kind: EventKind, reason: str) -> None:
        self._journal.commit(self._store, [op], [Happening(kind, reason)])

    def _absorb(self, entries: Mapping[str, Entry | None]) -> None:
        for key, entry in entries.items():
            record = _parsed(entry) if entry else None
            if record is None:
                self._records.pop(layout.name_in(key), None)
            else:
                self._records[layout.name_in(key)] = record


def _parsed(entry: Entry) -> TokenRecord | None:
    """The record; None, and a line in the log, for one that does not parse: nobody logs in with it."""
    try:
        return decode(entry, TokenRecord).value
    except BrokenRecord as broken:
        log.warning("token_broken", key=broken.key, problem=broken.problem)
        return None


def _moment(iso: str) -> datetime:
    """A time of the store; one without a zone is UTC, as all are written."""
    moment = datetime.fromisoformat(iso)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
