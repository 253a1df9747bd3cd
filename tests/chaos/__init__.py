# SPDX-License-Identifier: GPL-2.0-or-later
"""Chaos: a seeded random walk over faults, with the same audits after every one of them.

`walk` decides which fault comes next, and who should be active then: it is pure, and a seed always gives the
same walk. `faults` does to the routers what the walk says, `audits` asks the networks who answers,
`condition` looks at each router, and `run` puts them together. `test_audits` shows that each audit can fail.
`line`, `services` and `three` are walks of their own: a shared line, services, three routers.
The form is that of Pacemaker's CTS: after each fault, all that it may break is looked at.
"""
