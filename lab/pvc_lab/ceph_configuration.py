# SPDX-License-Identifier: Apache-2.0
"""ceph_configuration: the ceph.conf of a cluster that is up within seconds, on files in one folder.

Ceph's defaults are made for hundreds of disks: they wait a second before a map changes and half a minute before an OSD
counts as down. Here a map changes at once, and an OSD that is killed is down before a test has looked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CephSite:
    """Where a cluster is: its folder, the address that its daemons listen on, and by name its monitors' two ports.

    Of the two, the first is for the second version of the protocol.
    """

    folder: Path
    fsid: str
    host: str
    monitors: Mapping[str, tuple[int, int]]

    @property
    def monitor_addresses(self) -> dict[str, str]:
        """As ceph.conf and the map of monitors have them, by monitor: both versions of the protocol."""
        return {
            name: f"[v2:{self.host}:{v2_port}/0,v1:{self.host}:{v1_port}/0]"
            for name, (v2_port, v1_port) in self.monitors.items()
        }


def object_classes() -> Path:
    """The folder of what OSDs can do for RBD, which Debian names after the machine's architecture."""
    return next(Path("/usr/lib").glob("*/rados-classes"), Path("/usr/lib/rados-classes"))


def configuration(site: CephSite, *, copies: int, osd_bytes: int, mgr_modules: Path) -> str:
    """The text of ceph.conf. copies: how many OSDs have each object. osd_bytes: how large each OSD's file can grow."""
    return _TEMPLATE.format(
        fsid=site.fsid,
        monitors=",".join(site.monitor_addresses.values()),
        host=site.host,
        folder=site.folder,
        copies=copies,
        osd_bytes=osd_bytes,
        mgr_modules=mgr_modules,
        classes=object_classes(),
    )


# Logs stand in the daemons' sections only: a client would write there too.
_TEMPLATE = """\
[global]
fsid = {fsid}
mon_host = {monitors}
public_addr = {host}
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {folder}/keyring
run_dir = {folder}
crash_dir = {folder}/crash
mon_cluster_log_file = {folder}/cluster.log
osd_pool_default_size = {copies}
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
# Copies are on different OSDs, which are all on one host.
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_warn_on_pool_no_redundancy = false
# The disk under the lab is fuller than a monitor likes.
mon_data_avail_warn = 2
mon_data_avail_crit = 1
mon_max_pg_per_osd = 1000
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
mon_tick_interval = 1
mon_osd_down_out_interval = 600
mon_osd_min_down_reporters = 1
mgr_tick_period = 1
mgr_stats_period = 1
mgr_initial_modules =
mgr_module_path = {mgr_modules}
osd_heartbeat_grace = 3
osd_class_dir = {classes}

[mon]
log_file = {folder}/$name.log
admin_socket = {folder}/$name.asok
mon_data = {folder}/mon.$id

[mgr]
log_file = {folder}/$name.log
admin_socket = {folder}/$name.asok
mgr_data = {folder}/mgr.$id

[osd]
log_file = {folder}/$name.log
admin_socket = {folder}/$name.asok
osd_data = {folder}/osd.$id
osd_objectstore = bluestore
osd_memory_target = 939524096
osd_crush_initial_weight = 1
bluestore_block_size = {osd_bytes}
bluestore_fsck_on_mkfs = false
# Each of the dozen closings of a device in an OSD's start waits for this long.
bdev_aio_poll_ms = 5
osd_heartbeat_interval = 1
osd_mon_report_interval = 1
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 1
"""
