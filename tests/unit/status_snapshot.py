# SPDX-License-Identifier: GPL-2.0-or-later
"""A status snapshot with everything in it, and the page that `tandem status` makes of it."""

from __future__ import annotations

from typing import Any

LAN = {
    "name": "I1",
    "group": "G1",
    "state": "MASTER",
    "since_s": 15732.5,
    "since": 1753611200,
    "interface": "lan",
    "device": "br-lan",
    "family": 4,
    "version": 3,
    "virtual_router_id": 51,
    "priority": {"base": 100, "effective": 105, "why": ["script chk +10", "interface wwan0 -5"]},
    "advert_int_ms": 1000,
    "preempt": True,
    "faults": [],
    "source": "192.168.1.2",
    "peer": {"address": "192.168.1.3", "priority": 101, "interval_ms": 1500, "last_advert_s": 0.31},
    "stranger": None,
    "addresses": ["192.168.1.4/24 dev br-lan", "10.0.0.1/24 dev br-lan", "10.0.1.1/24 dev br-lan.2"],
    "routes": 0,
    "rules": 0,
    "snat": None,
    "trackers": [
        {"kind": "interface", "name": "br-lan", "up": True, "weight": 0},
        {"kind": "script", "name": "chk", "up": True, "weight": 10},
        {"kind": "interface", "name": "wwan0", "up": False, "weight": -5},
        {"kind": "script", "name": "slow", "up": None, "weight": 0},
    ],
    "transitions": 3,
    "counters": {"adverts_sent": 15731, "adverts_received": 3, "bad_ttl": 0, "bad_checksum": 7},
}
WAN = LAN | {
    "name": "E1",
    "interface": "eth0.2",
    "device": "eth0.2",
    "virtual_router_id": 52,
    "advert_int_ms": 100,
    "source": "192.168.0.2",
    "priority": {"base": 100, "effective": 100, "why": []},
    "peer": None,
    "addresses": ["192.168.0.4/24 dev eth0.2"],
    "routes": 2,
    "rules": 1,
    "snat": "192.168.0.4",
    "trackers": [],
    "counters": {"adverts_sent": 157310},
}
GUEST = LAN | {
    "name": "guest",
    "group": "guest",
    "state": "FAULT",
    "since_s": 3.21,
    "since": None,
    "interface": "guest",
    "device": None,
    "family": 6,
    "virtual_router_id": 7,
    "priority": {"base": 255, "effective": 255, "why": []},
    "preempt": False,
    "faults": ["interface br-guest down", "no address on br-guest", "standby"],
    "source": None,
    "peer": None,
    "addresses": ["fe80::1/64 dev br-guest"],
    "trackers": [],
    "transitions": 0,
    "counters": {},
}
STATUS: dict[str, Any] = {
    "schema_version": 1,
    "version": "0.1.0",
    "pid": 1234,
    "uptime_s": 273600.0,
    "router_id": "r1",
    "config_file": "/etc/config/tandem",
    "scheduling": {
        "policy": "FIFO 50",
        "memory_locked": True,
        "late_max_ms": 34.56,
        "late_count": 2,
        "late_limit_ms": 10,
        "turn_max_ms": 21.34,
        "turn_max_by": "router: Router.reload",
        "turn_count": 1,
        "turn_limit_ms": 20,
        "heartbeat_ms": 12.5,
    },
    "health": {},
    "networks": {"lan": "br-lan", "guest": None},
    "dhcp": None,
    "follow": [],
    "peers": [
        {
            "name": "r2",
            "connected": True,
            "roles": {"G1": "BACKUP", "guest": "BACKUP"},
            "heartbeats": {
                "state": "alive",
                "limit_ms": 150.0,
                "paths": [
                    {
                        "name": "192.168.1.3 dev br-lan",
                        "up": True,
                        "up_s": 15733.0,
                        "rtt_ms": 0.24,
                        "received": 314660,
                        "lost": 2,
                        "failures": 0,
                        "errors": 0,
                    },
                    {
                        "name": "10.0.0.3",
                        "up": False,
                        "up_s": None,
                        "rtt_ms": 0.31,
                        "received": 7,
                        "lost": 0,
                        "failures": 1,
                        "errors": 0,
                    },
                ],
                "last_failure": "10.0.0.3",
                "last_failure_s": 12.0,
                "stale": False,
                "repeated": 0,
            },
            "connections": "in step",
        }
    ],
    "checks": [
        {
            "name": "web",
            "used_by": "service nginx",
            "kind": "http",
            "target": "192.0.2.80:80",
            "up": True,
            "since_s": 15730.25,
            "since": 1753611202,
            "last": "status 200",
            "last_ms": 1.25,
            "successes": 15730,
            "failures": 2,
            "timeouts": 1,
            "skipped": 0,
        },
        {
            "name": "provider",
            "used_by": "",
            "kind": "ping",
            "target": "192.0.2.1",
            "up": None,
            "since_s": None,
            "since": None,
            "last": "",
            "last_ms": None,
            "successes": 0,
            "failures": 0,
            "timeouts": 0,
            "skipped": 0,
        },
    ],
    "virtual_servers": [
        {
            "name": "www",
            "address": "192.0.2.4:80",
            "protocol": "tcp",
            "algorithm": "sh",
            "sorry": False,
            "servers": [
                {
                    "name": "s1",
                    "address": "10.0.0.1",
                    "port": 8080,
                    "weight": 1,
                    "up": True,
                    "share": 1.0,
                },
                {
                    "name": "s2",
                    "address": "10.0.0.2",
                    "port": 8080,
                    "weight": 1,
                    "up": False,
                    "share": 0.0,
                },
            ],
        }
    ],
    "services": [
        {
            "name": "nginx",
            "agent": "ocf:heartbeat:nginx",
            "group": "G1",
            "where": "active",
            "state": "running",
            "wanted": True,
            "waits_for": "",
            "since_s": 15732.5,
            "since": 1753611200,
            "failures": 1,
            "failures_expire_s": 42.0,
            "banned": False,
            "last_operation": "monitor",
            "last_result": "done",
            "last_reason": "",
            "failure": "monitor not running: nginx is dead",
        },
        {
            "name": "db",
            "agent": "systemd:mariadb",
            "group": "G1",
            "where": "active",
            "state": "stopped",
            "wanted": False,
            "waits_for": "an end of its failures: tandem service clear db",
            "since_s": None,
            "since": None,
            "failures": 1,
            "failures_expire_s": None,
            "banned": True,
            "last_operation": "stop",
            "last_result": "done",
            "last_reason": "",
            "failure": "start failed: exit status 1",
        },
    ],
    "groups": [
        {
            "name": "G1",
            "state": "MASTER",
            "since_s": 15732.5,
            "since": 1753611200,
            "members": ["I1", "E1"],
            "implicit": False,
            "standby": False,
            "standby_since": None,
            "standby_by": None,
            "standby_lasts": False,
            "probation": "",
            "held": True,
            "damped_s": None,
            "faults": [],
            "waits": False,
        },
        {
            "name": "guest",
            "state": "FAULT",
            "since_s": 3.21,
            "since": None,
            "members": ["guest"],
            "implicit": True,
            "standby": True,
            "standby_since": 1753600000,
            "standby_by": "root from 192.168.1.10",
            "standby_lasts": True,
            "probation": "",
            "held": False,
            "damped_s": None,
            "faults": ["interface br-guest down", "no address on br-guest", "standby"],
            "waits": False,
        },
    ],
    "quorum": None,
    "instances": [LAN, WAN, GUEST],
    "history": [
        {
            "time": 1753611190.5 + number,
            "kind": "instance",
            "name": "I1",
            "group": "G1",
            "priority": 100,
            "seen": "",
            "detection_ms": None,
            "restore_ms": None,
            "address_ms": None,
            "announce_ms": None,
            "connections": None,
            **entry,
        }
        for number, entry in enumerate(
            (
                {"state": "FAULT", "why": "not shown any more"},
                {"state": "BACKUP", "why": "started"},
                {"state": "MASTER", "why": "no advertisement from an active router"},
                {"state": "BACKUP", "why": "a better router is active"},
                {"state": "FAULT", "why": "interface lan down, no address on lan, and much more"},
                {"state": "MASTER", "why": ""},
            )
        )
    ],
    "counters": {"log_lines_dropped": 0, "netlink_errors": 2},
}

SHORT_80 = """\
active       this router (G1), for 4 h 22 min; nobody (guest)
ready        no, not this router: guest is FAULT (interface br-guest down, no
             address on br-guest, standby)
connections  yes, in step with r2

G1     MASTER  for 4 h 22 min, since 2025-07-27 10:13:20
    failover   by command, does not preempt until: tandem resume G1
guest  FAULT   for 3.2 s
    standby    by root from 192.168.1.10, since 2025-07-27 07:06:40,
               until: tandem resume guest
    faults     interface br-guest down, no address on br-guest
"""

PAGE_80 = """\
active       this router (G1), for 4 h 22 min; nobody (guest)
ready        no, not this router: guest is FAULT (interface br-guest down, no
             address on br-guest, standby)
connections  yes, in step with r2

tandemd 0.1.0 on r1, pid 1234, up 3 d 4 h
    file       /etc/config/tandem
    scheduling FIFO 50, memory locked, at most 34.6 ms late,
               longest turn 21.3 ms, can hold heartbeats of 12.5 ms
    late       2 timers later than 10 ms
    turns      1 turn longer than 20 ms, the longest in router: Router.reload
    counters   netlink errors 2
    heartbeats r2 alive,
               192.168.1.3 dev br-lan up for 4 h 22 min (0.2 ms and 2 lost),
               10.0.0.3 silent, last silence 12.0 s ago on 10.0.0.3

G1     MASTER  for 4 h 22 min, since 2025-07-27 10:13:20
    failover   by command, does not preempt until: tandem resume G1
  I1   MASTER
    link       lan (br-lan), from 192.168.1.2, VRRPv3 IPv4, VRID 51, every 1 s
    priority   105 = 100 +10 script chk -5 interface wwan0
    peer       192.168.1.3, priority 101, every 1.5 s, heard 310 ms ago
    addresses  192.168.1.4/24 dev br-lan, 10.0.0.1/24 dev br-lan,
               10.0.1.1/24 dev br-lan.2
    trackers   interface br-lan up, script chk up (weight +10),
               interface wwan0 DOWN (weight -5), script slow not known yet
    counters   transitions 3, adverts sent 15731, adverts received 3,
               bad checksum 7
  E1   MASTER
    link       eth0.2, from 192.168.0.2, VRRPv3 IPv4, VRID 52, every 100 ms
    priority   100
    peer       none heard
    addresses  192.168.0.4/24 dev eth0.2
    with       2 routes, 1 rule, SNAT to 192.168.0.4
    counters   transitions 3, adverts sent 157310

guest  FAULT   for 3.2 s
    standby    by root from 192.168.1.10, since 2025-07-27 07:06:40,
               until: tandem resume guest
    faults     interface br-guest down, no address on br-guest
    link       guest (no device), no address to send from, VRRPv3 IPv6, VRID 7,
               every 1 s
    priority   255, nopreempt
    peer       none heard
    addresses  fe80::1/64 dev br-guest

    history    2025-07-27 10:13:15 G1 MASTER
               2025-07-27 10:13:14 G1 FAULT (interface lan down, no address on
               lan, and much more)
               2025-07-27 10:13:13 G1 BACKUP (a better router is active)
               2025-07-27 10:13:12 G1 MASTER (no advertisement from an active
               router)
               2025-07-27 10:13:11 G1 BACKUP (started)
"""
