# SPDX-License-Identifier: Apache-2.0
"""administration: what an administrator changes about a cluster: its pools, which OSDs take part, and their flags.

What Ceph answers with success though nothing is there, such as to the removal of a pool that does not exist, is looked
at first; why it refuses something is told in its own words.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, Refused
from pvc_core.sizes import parse_size
from pvc_core.storage import check_volume_name
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.backend import CephBackend
from pvc_storage_backends.ceph.connection import Connection, ask
from pvc_storage_backends.ceph.failures import CLUSTER, STALE, Subject, meaning
from pvc_storage_backends.ceph.pools import APPLICATION
from pvc_storage_backends.ceph.users import check_unused, known_nodes

FLAGS = (
    "nobackfill",
    "nodeep-scrub",
    "nodown",
    "noin",
    "noout",
    "norebalance",
    "norecover",
    "noscrub",
    "nosnaptrim",
    "noup",
)
"""Those of all OSDs that can be set. `full` and `pause` are none of them: they stop every guest's disks."""
AUTOSCALING = ("on", "off", "warn")
MOST_COPIES = 10
MOST_PGS = 65536
QUOTA = "quota"
_NUMBERS = {"size": MOST_COPIES, "min_size": MOST_COPIES, "pg_num": MOST_PGS}
POOL_SETTINGS = (*_NUMBERS, "pg_autoscale_mode", QUOTA)
_NO_REMOVALS = "mon_allow_pool_delete"


def order(connection: Connection, prefix: str, subject: Subject, **arguments: object) -> None:
    """Have something done. What Ceph refuses is a `Refused` or `InvalidInput` about the subject, in Ceph's words."""
    with connection.using(subject) as rados:
        code, _, said = ask(rados, prefix, "mon", arguments)
    if not code:
        return
    if code in STALE:
        connection.reset()
    if code == errno.EPERM and _NO_REMOVALS in said:
        allows = f"`ceph config set mon {_NO_REMOVALS} true` allows it"
        raise Refused(str(subject), f"the cluster lets no pool be removed; {allows}")
    if code == errno.EPERM and said:
        raise Refused(str(subject), f"Ceph refuses it: {said}")
    if code == errno.ERANGE:
        code = errno.EINVAL
    raise meaning(code, subject, said)


# ---------------------------------------------------------------------------------------------------- pools


def add_pool(ceph: CephBackend, name: str, pg_num: int | None = None, size: int | None = None) -> None:
    """A pool that is given to RBD. None: Ceph's defaults. Raises `AlreadyExists`, `InvalidInput`, `Refused`."""
    check_volume_name(name)
    connection, pool = ceph.connection, Subject("pool", name)
    found = _pools(connection).get(name)
    if found is not None and not found["application_metadata"]:
        gives = f"`ceph osd pool application enable {name} {APPLICATION}` gives it to volumes"
        raise Refused(str(pool), f"exists, and belongs to no application; {gives}")
    if found is not None:
        raise AlreadyExists("pool", name)
    wanted = {"pg_num": pg_num, "pgp_num": pg_num, "size": size}
    given = {key: value for key, value in wanted.items() if value is not None}
    order(connection, "osd pool create", pool, pool=name, **given)
    order(connection, "osd pool application enable", pool, pool=name, app=APPLICATION)


def remove_pool(ceph: CephBackend, name: str, vms: Collection[str]) -> None:
    """A pool and all that is in it. vms: those that have a volume there, for which it is refused.

    Refused as well while anybody has one of its volumes open, and for a pool of another application's.
    """
    connection, pool = ceph.connection, Subject("pool", name)
    applications = _pool(connection, name)["application_metadata"]
    if applications and APPLICATION not in applications:
        raise Refused(str(pool), f"is not for volumes: it belongs to {', '.join(sorted(applications))}")
    if vms:
        raise Refused(str(pool), f"has volumes of VM {', '.join(sorted(vms))}")
    if applications:
        _check_unused(ceph, name)
    order(connection, "osd pool delete", pool, pool=name, pool2=name, yes_i_really_really_mean_it=True)


def set_pool(ceph: CephBackend, name: str, setting: str, value: str) -> None:
    """Change one setting of a pool. Raises `NotFound`, `InvalidInput`, `Refused`."""
    connection, pool = ceph.connection, Subject("pool", name)
    checked = checked_setting(setting, value)
    _pool(connection, name)
    if setting == QUOTA:
        order(connection, "osd pool set-quota", pool, pool=name, field="max_bytes", val=checked)
    else:
        order(connection, "osd pool set", pool, pool=name, var=setting, val=checked)


def checked_setting(setting: str, value: str) -> str:
    """The value as Ceph takes it. Raises `InvalidInput`."""
    if setting == QUOTA:
        return "0" if value == "none" else str(parse_size(value, QUOTA))
    if setting == "pg_autoscale_mode":
        if value not in AUTOSCALING:
            raise InvalidInput(setting, "is none of its modes", value[:80], AUTOSCALING)
        return value
    if setting not in _NUMBERS:
        raise InvalidInput("setting", "is none of a pool's", setting[:80], POOL_SETTINGS)
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= _NUMBERS[setting]):
        raise InvalidInput(setting, "is no such number", value[:80], (f"1 to {_NUMBERS[setting]}",))
    return value


def _pools(connection: Connection) -> dict[str, Mapping[str, Any]]:
    return {pool["pool_name"]: pool for pool in connection.command("osd pool ls", detail="detail")}


def _pool(connection: Connection, name: str) -> Mapping[str, Any]:
    pools = _pools(connection)
    if name not in pools:
        raise NotFound("pool", name, tuple(sorted(pools)))
    return pools[name]


def _check_unused(ceph: CephBackend, pool: str) -> None:
    rbd = bindings.load().rbd
    with ceph.connection.using(CLUSTER) as rados, ceph.opened(pool) as ioctx:
        nodes = known_nodes(rados)
        for name in rbd.RBD().list(ioctx):
            with rbd.Image(ioctx, name, read_only=True) as image:
                check_unused(name, image, nodes)


# ----------------------------------------------------------------------------------------------------- OSDs


def take_part(ceph: CephBackend, osd: str, wanted: bool) -> str:
    """Let an OSD, `7` or `osd.7`, hold data or no more; what it is called. Its data moves then. Raises `NotFound`."""
    number = known_osd(ceph, osd)
    order(ceph.connection, "osd in" if wanted else "osd out", Subject("OSD", str(number)), ids=[str(number)])
    return f"osd.{number}"


def known_osd(ceph: CephBackend, osd: str) -> int:
    """The number of an OSD, `7` or `osd.7`, that there is. Raises `NotFound`."""
    known = {str(number): int(number) for number in ceph.connection.command("osd ls")}
    number = known.get(osd.removeprefix("osd."))
    if number is None:
        raise NotFound("OSD", osd[:80], _names(known))
    return number


def set_flag(ceph: CephBackend, flag: str, wanted: bool) -> None:
    """Set a flag of all OSDs, or take it away. Raises `InvalidInput` for what is none."""
    if flag not in FLAGS:
        raise InvalidInput("flag", "is no flag that can be set for all OSDs", flag[:80], FLAGS)
    order(ceph.connection, "osd set" if wanted else "osd unset", Subject("flag", flag), key=flag)


def _names(numbers: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"osd.{number}" for number in numbers)
