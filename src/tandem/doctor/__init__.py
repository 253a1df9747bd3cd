# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem doctor`: everything that breaks a pair of routers in practice, and what to do about it.

collect, listen, probes, ruleset     one router's facts, from its daemon, kernel and networks
exchange                             the other router's facts, over the replication channel
checks_router, checks_pair           facts to findings, pure
command, page                        how it is called, what it prints
"""
