# SPDX-License-Identifier: GPL-2.0-or-later
"""The limits of takeover and reunion: how long one router waits for what another router knows.

Each wait ends at its limit, because a gateway without some connections is better than no gateway. All limits
are in ns. A limit that must be longer than another one is derived from it.

    who waits                          for what                                    limit
    ---------------------------------  ------------------------------------------  --------------------------
    a router that becomes active       the kernel has all replicated connections   RESTORE_LIMIT        10 s
    a router that was handed the role  the last records of the former active       LAST_RECORDS_LIMIT   2 s
                                       or its next record, while it says nothing   LAST_RECORDS_SILENCE 50 ms
    the lesser of two active routers   the better one holds its connections        REUNION_LIMIT        5 s
                                       a session, if it has never had one          MEETING_LIMIT        1 s
    the better of two active routers   it holds the connections of the lesser one  ANNOUNCE_LIMIT       6 s
                                       the lesser one ends its stream              EXCHANGE_LIMIT       8 s
    a router that was active as well   the better one tells what it has learned    SURPLUS_LIMIT        5 s
    a router that holds connections    the former active router streams again      FORMER_LIMIT         60 s
                                       the same, while there is a session          FORMER_QUIET_LIMIT   1 s
    a router that stops                its peers acknowledge its last records      GOODBYE_LIMIT        2 s
    a router in fault                  a better one holds its connections          FILL_LIMIT           5 s
    a router that offers its role      a neighbour takes it                        OFFER_LIMIT        200 ms
                                       that neighbour serves                       ENTER_LIMIT      10200 ms
    a router that was offered a role   the former active router ends its stream    STREAM_LIMIT       300 ms
    a router that takes a line over    the other one says that it has left the     LINE_LIMIT           200 ms
                                       networks that follow the role
    a router that gives the role up    its services stop, if an operator asked     DEPARTURE_LIMIT      50 s
    a router that claims a service     a peer that is silent otherwise answers     ANSWER_LIMIT         250 ms
"""

from __future__ import annotations

from tandem.core.timers import MILLISECOND, SECOND

# Then the addresses are installed, whatever is missing: the kernel may refuse entries for ever.
RESTORE_LIMIT = 10 * SECOND

# The former active router sends what its kernel has told it, then ends its stream. It may be the path to it
# that was lost: a round trip, and a turn of a busy loop, fit into the silence.
LAST_RECORDS_SILENCE = 50 * MILLISECOND
LAST_RECORDS_LIMIT = 2 * SECOND

# A new session and the whole table fit into it. Meanwhile both routers answer for the addresses.
REUNION_LIMIT = 5 * SECOND
# A router that has restarted during a partition knows no peer. The other active router may be none of its
# peers, and then there is nothing to wait for: a connection and a handshake fit into it several times.
MEETING_LIMIT = SECOND
# The better one sees the other one's adverts first, up to an interval before the lesser one sees its own.
ANNOUNCE_LIMIT = REUNION_LIMIT + SECOND
# The exchange goes on in the background for longer than anybody waits for it.
EXCHANGE_LIMIT = ANNOUNCE_LIMIT + 2 * SECOND

# The better router gets the time to tell what it learned from here, before that is retired here.
SURPLUS_LIMIT = REUNION_LIMIT

# A router that is down may be active for another group, and dead: a third router may still need what it told.
# One that has a session and is active for nothing would have said so at once.
FORMER_LIMIT = 60 * SECOND
FORMER_QUIET_LIMIT = SECOND

# The addresses are gone by then. A peer that cannot be reached must not keep a router from its restart.
GOODBYE_LIMIT = 2 * SECOND

# The better one has just started, and has a session: the whole table fits into it. Hosts have lived with the
# fault, or it does not keep this router from forwarding.
FILL_LIMIT = REUNION_LIMIT

# An operator waits for it, and so does the end of the daemon.
OFFER_LIMIT = 200 * MILLISECOND
# The neighbour restores meanwhile, and nobody else has the addresses.
ENTER_LIMIT = RESTORE_LIMIT + OFFER_LIMIT
# Until then the mirror goes on writing what the former active router tells.
STREAM_LIMIT = OFFER_LIMIT + 100 * MILLISECOND

# The other router hears the adverts at once. One that does not leave is a partition, or has an older release.
LINE_LIMIT = OFFER_LIMIT

# Less than procd waits for the end of the daemon.
DEPARTURE_LIMIT = 50 * SECOND
# TCP sends a lost segment again after 200 ms.
ANSWER_LIMIT = 250 * MILLISECOND
