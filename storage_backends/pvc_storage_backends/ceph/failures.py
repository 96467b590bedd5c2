# SPDX-License-Identifier: Apache-2.0
"""failures: what Ceph's error numbers mean to PVC, said of the thing that was to be worked on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, PluginError, PvcError, Refused, StorageUnavailable

SHUT_OUT = errno.ESHUTDOWN
"""How Ceph answers a client that is on its blocklist."""
STALE = frozenset({errno.ETIMEDOUT, errno.ESHUTDOWN, errno.ENOTCONN, errno.ECONNABORTED, errno.EPIPE})
"""After one of these a connection may never work again, and a new one may at once."""

_AWAY = {
    errno.ETIMEDOUT: "it has not answered in time: look at its monitors and OSDs (`ceph status`)",
    errno.ESHUTDOWN: "this client is shut out: it is on the blocklist of the cluster",
    errno.ENOTCONN: "there is no connection",
}
_NOT_NOW = {
    errno.EBUSY: "it is in use",
    errno.ENOTEMPTY: "it has snapshots",
    errno.EROFS: "another client has it locked",
    errno.ENOSPC: "the pool or the cluster is full",
    errno.EDQUOT: "the quota of the pool is reached",
    errno.EACCES: "Ceph does not allow it to the user that is configured",
    errno.EPERM: "Ceph does not allow it to the user that is configured",
}


@dataclass(frozen=True)
class Subject:
    """What is worked on: a pool, volume or snapshot by name. new_name: what it was to be called."""

    kind: str
    name: str
    new_name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


CLUSTER = Subject("storage", "ceph")


def errno_of(error: BaseException) -> int:
    """The positive number of an error of Ceph's bindings; 0 for anything else."""
    if isinstance(error, PvcError) or type(error).__module__ not in ("rados", "rbd"):
        return 0
    return abs(getattr(error, "errno", 0) or 0) or errno.EIO


def meaning(code: int, subject: Subject, said: str = "") -> PvcError:
    """The error that PVC raises for one of Ceph's."""
    if code in _AWAY:
        return StorageUnavailable("ceph", _AWAY[code])
    if code == errno.ENOENT:
        return NotFound(subject.kind, subject.name)
    if code == errno.EEXIST:
        return AlreadyExists(subject.kind, subject.new_name or subject.name)
    if code in _NOT_NOW:
        return Refused(str(subject), _NOT_NOW[code])
    if code == errno.EINVAL:
        return InvalidInput(subject.kind, f"Ceph does not accept this: {said or 'it does not say why'}", subject.name)
    return PluginError("ceph", f"{subject}: {said or 'it does not say why'} (errno {code})")


@contextmanager
def explained(subject: Subject = CLUSTER) -> Iterator[None]:
    """What Ceph's bindings raise here is raised as a `PvcError` about the subject."""
    try:
        yield
    except Exception as error:
        if code := errno_of(error):
            raise meaning(code, subject, str(error)) from error
        raise
