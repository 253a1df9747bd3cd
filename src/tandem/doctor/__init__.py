# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem doctor` finds everything that breaks a pair of routers in practice, and says what to do.

collect, listen, probes, ruleset     one router's facts, from its daemon, kernel and networks
exchange                             the other router's facts, over the replication channel
checks_router, checks_pair           facts to findings, pure
command, page                        the command and its output
"""
