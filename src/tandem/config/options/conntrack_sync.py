# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the sections `peer`, `conntrack_sync` and `dhcp_gateway`."""

from __future__ import annotations

from dataclasses import replace

from tandem.config import sync_values
from tandem.config.option import NEXT, SESSION, Option, Refused, Table, switch
from tandem.config.options.common import name
from tandem.config.problem import MASK
from tandem.config.syntax.path import read_paths, write_path
from tandem.config.values import ADDRESS, COMMAND, DEVICE, PATH, TEXT, Kind, choice, seconds, whole

_PORT = Option(
    whole(1, 65535),
    "3780",
    "The TCP port of the channel, the same on all routers.",
    shown=lambda found: found.paths[0].port,
    reload=SESSION,
)
_MAX_HOPS = Option(
    whole(1, 255),
    "1",
    "A peer that connects is at most so far away; 1: on the same link.",
    "max_hops",
    reload=SESSION,
    since=NEXT,
)
_SECRET = Option(
    sync_values.SECRET,
    None,
    "The secret with key id 1, the same on all routers. It is better kept in a file.",
    secret=True,
    reload=SESSION,
)
_SECRET_FILE = Option(
    sync_values.SECRET_FILE,
    None,
    "The file that holds this secret and that only root can read.",
    secret=True,
    reload=SESSION,
)
_KEY = Option(
    sync_values.KEY,
    None,
    "Further secrets as ID:FILE; each of them is accepted.",
    shown=lambda found: [f"{key_id}:{MASK}" for key_id, _ in found.secrets],
    many=True,
    secret=True,
    reload=SESSION,
)
_KEY_ID = Option(
    whole(1, 255),
    None,
    "The id of the secret that this router uses. Default: 1, or the only one.",
    "key_id",
    shown=lambda found: found.key_id or None,
    reload=SESSION,
)
_INSECURE = Option(
    switch("0", "").kind,
    "0",
    "There is no secret: whoever reaches the port can make and break connections.",
    "insecure",
    reload=SESSION,
)
_HEARTBEAT = Option(
    seconds("0.01", "60"),
    "1",
    "The interval of heartbeats; after three missed ones the peer is dead.",
    "heartbeat_ms",
    reload=SESSION,
)
_STALL_TIMEOUT = Option(
    seconds("0.1", "600"),
    "10",
    "A peer that does not answer for so long is given up.",
    "stall_timeout_ms",
    reload=SESSION,
)


def _of_peers(row: Option) -> Option:
    """Make the row of conntrack_sync for an option that its peers have unless they have their own."""
    text = f"For the peers that this section lists and whose section does not set it: {row.help}"
    return replace(row, help=text, field=None, shown=None)


PEER: Table = {
    "name": name("conntrack_sync and unicast_peer name the router by this.", "name"),
    "enabled": replace(
        switch("1", "There is a channel to this router, if it has a key.", shown=lambda _found: True),
        reload=SESSION,
        since=NEXT,
    ),
    "address": Option(
        Kind(
            "unicast IP addresses, each with maybe 'dev NAME' and 'src ADDRESS' after it",
            read_paths,
            write_path,
            type="path",
        ),
        None,
        "The router's addresses, the preferred one first; unicast_peer uses one of them.",
        "paths",
        many=True,
        required=True,
        reload=SESSION,
    ),
    "port": replace(_PORT, since=NEXT),
    "secret": replace(_SECRET, since=NEXT),
    "secret_file": replace(_SECRET_FILE, since=NEXT),
    "key": replace(_KEY, since=NEXT),
    "key_id": replace(_KEY_ID, since=NEXT),
    "insecure": replace(_INSECURE, since=NEXT),
    "router_id": Option(
        TEXT,
        None,
        "The router must call itself this (its globals' router_id); otherwise it is refused.",
        "router_id",
        reload=SESSION,
        since=NEXT,
    ),
    "max_hops": _MAX_HOPS,
    "heartbeat": replace(_HEARTBEAT, since=NEXT),
    "stall_timeout": replace(_STALL_TIMEOUT, since=NEXT),
    **dict.fromkeys(("min_ttl", "max_ttl"), Refused("not supported: unicast adverts may have any TTL")),
}

CONNTRACK_SYNC: Table = {
    "enabled": switch("1", "Connections are replicated.", shown=lambda _found: True),
    "peer": Option(
        Kind(
            "peer sections, or addresses with maybe 'dev NAME' and 'src ADDRESS' after them",
            str,
            type="reference",
        ),
        None,
        "Connections are replicated with these routers. Default: all peer sections with a key.",
        "peers",
        many=True,
        reload=SESSION,
    ),
    "source": Option(ADDRESS, None, "Our address, for peers without dev and src.", reload=SESSION),
    "interface": Option(
        DEVICE, None, "The network or device, for peers without dev and src.", reload=SESSION
    ),
    "port": _of_peers(_PORT),
    "max_hops": _of_peers(_MAX_HOPS),
    "secret": _of_peers(_SECRET),
    "secret_file": _of_peers(_SECRET_FILE),
    "key": _of_peers(_KEY),
    "key_id": _of_peers(_KEY_ID),
    "insecure": _of_peers(_INSECURE),
    "heartbeat": _of_peers(_HEARTBEAT),
    "digest_interval": Option(
        seconds("1", "3600"),
        "10",
        "The routers compare their tables in this interval.",
        "digest_interval_ms",
        reload=SESSION,
    ),
    "stall_timeout": _of_peers(_STALL_TIMEOUT),
    "address": Option(
        sync_values.NETWORK,
        None,
        "Only connections from or to these networks are replicated.",
        "only_networks",
        many=True,
    ),
    "ignore_address": Option(
        sync_values.NETWORK,
        None,
        "Connections from these networks, or with their real end there, are not replicated.",
        "ignore_networks",
        many=True,
    ),
    "protocol": Option(
        sync_values.PROTOCOL, None, "Only these protocols are replicated.", "protocols", many=True
    ),
    "ignore_protocol": Option(
        sync_values.PROTOCOL, None, "These protocols are not replicated.", "ignore_protocols", many=True
    ),
    "tcp_state": Option(
        sync_values.STATE,
        None,
        "TCP connections are replicated in these states only. Default: in all. Without SYN_SENT, labels and"
        " what belongs to a helper's connection (FTP, SIP) may be lost.",
        "tcp_states",
        many=True,
    ),
    "zone": Option(sync_values.ZONE, None, "Only these conntrack zones are replicated.", "zones", many=True),
    "sync_after": Option(
        sync_values.SYNC_AFTER,
        "2",
        "Flows of UDP and ICMP are replicated when they have lived so many seconds and both ends have spoken,"
        " TCP connections when they are answered, port forwards of UDP and what helpers (SIP) look after"
        " at once; 0: all at once, as with guarantee.",
        "sync_after",
        since=NEXT,
    ),
    "local": switch("0", "The router's own connections are replicated too.", "local"),
    "limit_entries": Option(
        whole(1, 16_777_216), "262144", "At most so many connections are held for the peers.", "limit_entries"
    ),
    "limit_bytes": Option(
        sync_values.size("64K", "4G"), "64M", "They take at most so much memory.", "limit_bytes"
    ),
    "hold": Option(
        whole(1, 432_000, "s"),
        "3600",
        "Connections are held so long after the last word from their router.",
        "hold_s",
    ),
    "queue_limit": Option(
        sync_values.size("64K", "1G"),
        "4M",
        "At most so much waits for a slow peer; more is discarded, and a full transfer replaces it.",
        "queue_limit",
        reload=SESSION,
    ),
    "receive_buffer": Option(
        sync_values.size("4K", "1G"),
        "8M",
        "The buffer for the kernel's events; an event takes about 1 KiB.",
        "receive_buffer",
    ),
    "preempt_sync_timeout": Option(
        seconds("0", "3600"),
        "30",
        "Preemption waits at most so long until connections are replicated; 0: it does not wait.",
        "preempt_sync_timeout_ms",
    ),
    "guarantee": Option(
        choice("none", "connection"),
        "none",
        "With connection, the first answer of each new connection waits until a peer knows the connection.",
        "guarantee",
        shown=lambda found: found.guarantee or "none",
    ),
    "guarantee_timeout": Option(
        seconds("0.001", "10"),
        "0.1",
        "An answer waits at most so long.",
        "guarantee_timeout_ms",
        shown=lambda found: found.guarantee_timeout_ms if found.guarantee else None,
    ),
    "stale_lag": Option(
        seconds("0", "3600"),
        "1",
        "A peer that is out of step or behind for longer is reported as replication_stale; 0: never.",
        "stale_lag_ms",
    ),
    "stale_loss": Option(
        whole(0, 1_000_000_000),
        "1000",
        "More records lost within a minute are reported as replication_stale; 0: never.",
        "stale_loss",
    ),
}

DHCP_GATEWAY: Table = {
    "leasefile": Option(PATH, None, "dnsmasq's lease file. Default: as dnsmasq is configured.", "leasefile"),
    "confdir": Option(
        PATH, None, "A directory that dnsmasq reads. Default: as dnsmasq is configured.", "confdir"
    ),
    "restart": Option(
        COMMAND,
        "/etc/init.d/dnsmasq restart",
        "The command restarts dnsmasq, so that it reads leases.",
        "restart",
    ),
    "restart_timeout": Option(
        seconds("1", "300"), "30", "The restart takes at most so long.", "restart_timeout_ms"
    ),
    "restart_delay": Option(
        seconds("0.05", "60"),
        "1",
        "Leases of the other router are gathered so long before a restart.",
        "restart_delay_ms",
    ),
    "router": switch("1", "Clients get the virtual address as their router.", "router"),
    "dns": switch("1", "Clients get the virtual address as their DNS server.", "dns"),
    "replicate": switch("1", "Leases are replicated to all peers that there is a channel to.", "replicate"),
}
