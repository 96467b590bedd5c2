# SPDX-License-Identifier: Apache-2.0
"""broken_stores: stores with one mistake each, as they are made in earnest, and the rules that they break.

Every class is the embedded store but for one method. `breaks` names the rules that have to notice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pvc_core.errors import Conflict, StoreUnavailable, TooLarge
from pvc_core.ports import Check, Create, Delete, Entry, Op, SessionState, Set, Subscription
from pvc_plugins.stores.embedded import SqliteStore

LATER_S = 0.05


class Broken(SqliteStore):
    """The embedded store, to be broken in one method."""

    breaks: ClassVar[tuple[str, ...]] = ()
    """Rules, without "test_"."""


class Deaf:
    """A subscription that cannot be cancelled."""

    def cancel(self) -> None: ...


# ------------------------------------------------------------------------- values, transactions, renaming


class LaggingReplica(Broken):
    """Reads from a replica that has not heard of other sessions' writes."""

    breaks = ("what_one_session_wrote_another_reads_at_once",)

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.read: dict[str, Entry | None] = {}

    def get(self, key: str) -> Entry | None:
        return self.read.setdefault(key, super().get(key))


class Unsorted(Broken):
    """Lists children as the server happens to have them."""

    breaks = ("children_are_names_sorted", "thousands_of_keys_are_listed_and_read")

    def children(self, key: str) -> tuple[str, ...]:
        return super().children(key)[::-1]


class OneByOne(Broken):
    """Does one operation after the other."""

    breaks = ("an_operation_that_does_not_hold_undoes_all_and_is_named",)

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        return tuple(version for op in ops for version in super(OneByOne, self).transaction([op]))


class IgnoresResults(Broken):
    """Does not look at the list of results that a failed transaction comes back with."""

    breaks = (
        "an_operation_that_does_not_hold_undoes_all_and_is_named",
        "threads_that_count_with_versions_lose_no_count",
        "the_late_write_of_a_deposed_leader_fails",
    )

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        try:
            return super().transaction(ops)
        except Conflict:
            return (0,) * len(ops)


class NamesTheLast(Broken):
    """Says that a transaction has failed, and blames the wrong key."""

    breaks = ("an_operation_that_does_not_hold_undoes_all_and_is_named", "of_several_failures_the_first_is_named")

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        try:
            return super().transaction(ops)
        except Conflict as error:
            raise Conflict(ops[-1].key, error.problem) from error


class AnyVersion(Broken):
    """Passes -1 on to a server for which it means "any version"."""

    breaks = ("a_negative_version_is_never_taken_for_any_version",)

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        return super().transaction([self.resolved(op) for op in ops])

    def resolved(self, op: Op) -> Op:
        if isinstance(op, Check | Set | Delete) and op.version == -1 and (entry := self.get(op.key)) is not None:
            return replace(op, version=entry.version)
        return op


class SendsAnySize(Broken):
    """Sends what the server does not take, which then closes the connection."""

    breaks = (
        "a_value_over_the_limit_is_refused_before_it_is_sent",
        "a_transaction_over_the_limit_is_refused_before_it_is_sent",
    )

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        try:
            return super().transaction(ops)
        except TooLarge:
            raise StoreUnavailable("the server has closed the connection") from None


class RenamesByPrefix(Broken):
    """Takes "begins with the key" for "is below the key"."""

    breaks = ("rename_moves_a_key_with_all_that_is_below_it",)

    def rename(self, source: str, destination: str, also: Sequence[Op] = ()) -> None:
        super().rename(source, destination, also)
        for name in self.children("/"):
            if f"/{name}".startswith(source):
                super().rename(f"/{name}", f"/{name}".replace(source, destination))


class RenamesThenTheRest(Broken):
    """Renames, and does the other operations in a transaction of their own."""

    breaks = ("an_operation_that_does_not_hold_stops_the_rename",)

    def rename(self, source: str, destination: str, also: Sequence[Op] = ()) -> None:
        super().rename(source, destination)
        self.transaction(also)


class CopiesThenDeletes(Broken):
    """Renames by a copy, and then deletes whatever the original has become."""

    breaks = ("a_child_changed_meanwhile_is_never_lost",)

    def rename(self, source: str, destination: str, also: Sequence[Op] = ()) -> None:
        children = self.get_many([f"{source}/{name}" for name in self.children(source)])
        copies = [Create(key.replace(source, destination, 1), entry.data) for key, entry in children.items()]
        self.transaction([Create(destination, b""), *copies, *also])
        now = self.get_many([*children, source])
        self.transaction([Delete(key, entry.version) for key, entry in now.items()])


# --------------------------------------------------------------------------------------- watches, mirrors


class OneShot(Broken):
    """Has watches that the server forgets when they have fired, and does not set them again."""

    breaks = ("set_delete_and_create_are_reported",)

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        told: list[Entry | None] = []

        def tell_twice(entry: Entry | None) -> None:
            told.append(entry)
            if len(told) <= 2:
                listener(entry)

        return super().watch(key, tell_twice)


class FirstCallLater(Broken):
    """Returns from `watch` before the listener has been told anything."""

    breaks = ("the_first_call_is_made_before_watch_returns",)

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        return super().watch(key, lambda entry: threading.Timer(LATER_S, listener, [entry]).start())


class ComparesValues(Broken):
    """Reports a key when its value or version is another one, and misses that it is another key."""

    breaks = ("a_key_deleted_and_created_again_alike_is_noticed",)

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        told: list[Entry | None] = []

        def tell_news(entry: Entry | None) -> None:
            if told[-1:] != [entry]:
                told.append(entry)
                listener(entry)

        return super().watch(key, tell_news)


class MissesWhatHappenedMeanwhile(Broken):
    """Goes on after the connection was away as if nothing had happened."""

    breaks = ("what_changed_while_the_connection_was_away_is_reported",)

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.watched: set[str] = set()
        self.missed: set[str] = set()
        self.add_session_listener(self.miss)

    def miss(self, state: SessionState) -> None:
        if state is SessionState.SUSPENDED:
            self.missed |= self.watched

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        self.watched.add(key)

        def tell(entry: Entry | None) -> None:
            if key in self.missed:
                self.missed.discard(key)
            else:
                listener(entry)

        return super().watch(key, tell)


class NeverCancels(Broken):
    """Goes on calling a listener that was cancelled."""

    breaks = ("after_cancel_the_listener_is_not_called", "a_listener_may_cancel_itself")

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        super().watch(key, listener)
        return Deaf()


class GivesListenersUp(Broken):
    """Does not call a listener again that has raised."""

    breaks = ("a_listener_that_raises_is_called_again_and_harms_no_other",)

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        failures: list[Exception] = []

        def tell(entry: Entry | None) -> None:
            try:
                if not failures:
                    listener(entry)
            except Exception as error:
                failures.append(error)
                raise

        return super().watch(key, tell)


class TellsAll(Broken):
    """Tells a mirror's listener everything each time."""

    breaks = ("a_mirror_reports_what_changed_and_only_that",)

    def mirror(self, parent: str, listener: Callable[[Mapping[str, Entry | None]], None]) -> Subscription:
        known: dict[str, Entry | None] = {}

        def tell(news: Mapping[str, Entry | None]) -> None:
            known.update(news)
            listener(dict(known))

        return super().mirror(parent, tell)


class NothingToTell(Broken):
    """Does not call a mirror's listener as long as there is nothing."""

    breaks = ("the_first_call_is_made_even_if_there_is_nothing",)

    def mirror(self, parent: str, listener: Callable[[Mapping[str, Entry | None]], None]) -> Subscription:
        return super().mirror(parent, lambda news: listener(news) if news else None)


# ------------------------------------------------------------------------------------- sessions, election


class NothingIsEphemeral(Broken):
    """Keeps what should go with its session."""

    breaks = (
        "an_ephemeral_is_seen_by_all_and_vanishes_at_close",
        "values_outlive_all_sessions_and_ephemerals_do_not",
        "a_candidate_follows_when_the_leaders_session_expires",
    )

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        return super().transaction([replace(op, ephemeral=False) if isinstance(op, Create) else op for op in ops])


class HidesTheCut(Broken):
    """Does not say that it is cut off: it will be back soon."""

    breaks = ("a_store_that_is_cut_off_says_so_and_fails_quickly",)

    def add_session_listener(self, listener: Callable[[SessionState], None]) -> Subscription:
        return super().add_session_listener(lambda state: None if state is SessionState.SUSPENDED else listener(state))


class HidesTheLoss(Broken):
    """Begins another session, and tells nobody that the one before is lost."""

    breaks = ("an_expired_session_is_told_as_lost_and_followed_by_another",)

    def add_session_listener(self, listener: Callable[[SessionState], None]) -> Subscription:
        return super().add_session_listener(lambda state: None if state is SessionState.LOST else listener(state))
