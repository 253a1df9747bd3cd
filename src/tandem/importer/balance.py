# SPDX-License-Identifier: GPL-2.0-or-later
"""keepalived's virtual servers with their real servers and checkers (check_parser.c and check_*.c of 2.2.7).

Only those that LVS reaches by NAT have an equivalent. Equal checkers become one check.
"""

from __future__ import annotations

import shlex

from tandem.importer.draft import Draft, Origin, Section, masked
from tandem.importer.keepalived import Statement, split_command

ALGORITHMS = {"rr": "rr", "wrr": "wrr", "sh": "sh", "lc": "wrr", "wlc": "wrr"}
KINDS = {
    "TCP_CHECK": "tcp", "HTTP_GET": "http", "SSL_GET": "https", "MISC_CHECK": "script", "DNS_CHECK": "dns",
    "PING_CHECK": "ping",
}  # fmt: skip
RETRIES = {"TCP_CHECK": 1, "HTTP_GET": 3, "SSL_GET": 3, "MISC_CHECK": 1, "DNS_CHECK": 3, "PING_CHECK": 1}
# keepalived's keyword: the option of a check.
OPTIONS = {
    "connect_ip": "host", "connect_port": "port", "bindto": "source", "bind_if": "interface",
    "connect_timeout": "timeout", "misc_timeout": "timeout", "delay_loop": "interval",
    "delay_before_retry": "delay_before_retry", "virtualhost": "virtualhost", "type": "record",
}  # fmt: skip
URL = {"path": "path", "digest": "digest", "virtualhost": "virtualhost", "status_code": "status"}
READ = (
    "delay_loop", "persistence_timeout", "protocol", "lb_kind", "lvs_method", "lb_algo", "lvs_sched",
    "real_server", "sorry_server",
)  # fmt: skip
DELAY, TIMEOUT = "60", "5"  # s, keepalived's defaults of delay_loop and connect_timeout


class Servers:
    """Adds virtual servers to a draft."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._checks: dict[tuple[tuple[str, str], ...], str] = {}

    def add(self, statement: Statement) -> None:
        """Add one `virtual_server` block."""
        where = _origin(statement)
        words = statement.words[1:]
        if len(words) != 2 or words[0] in ("group", "fwmark"):
            self._draft.leave_out(where, "not supported: give an address and a port")
            return
        inside = {one.keyword: one for one in statement.inside()}
        method = inside.get("lb_kind") or inside.get("lvs_method")
        if method is not None and method.argument() != "NAT":
            self._draft.leave_out(where, f"{method.text}: not supported: Tandem balances with NAT only")
            return
        section = self._draft.section("virtual_server", where)
        self._put(section, where, name=f"{words[0]}-{words[1]}", ipaddr=words[0], port=words[1])
        self._settings(section, inside)
        delay = inside["delay_loop"].argument() if "delay_loop" in inside else None
        for one in statement.inside():
            if one.keyword == "real_server":
                self._real(section, one, delay or DELAY)
            elif one.keyword not in READ and self._draft.understood(section, one.keyword, _origin(one)):
                self._draft.put(section, one.keyword, one.argument() or "1", _origin(one))

    def _settings(self, section: Section, inside: dict[str, Statement]) -> None:
        if protocol := inside.get("protocol"):
            self._put(section, _origin(protocol), protocol=(protocol.argument() or "").lower())
        algorithm = inside.get("lb_algo") or inside.get("lvs_sched")
        if persistent := inside.get("persistence_timeout"):
            self._draft.remark(
                _origin(persistent), "becomes lb_algo sh: a client always stays with one server"
            )
        elif algorithm is None:
            self._put(section, section.origin, lb_algo="wrr")  # keepalived's default is wlc
        else:
            word = algorithm.argument() or ""
            if (ours := ALGORITHMS.get(word)) is None:
                reason = "not supported: connections go by the client's address (sh)"
                self._draft.leave_out(_origin(algorithm), reason)
            else:
                self._put(section, _origin(algorithm), lb_algo=ours)
                if ours != word:
                    reason = f"is {ours}: nftables does not count the connections of each server"
                    self._draft.remark(_origin(algorithm), reason)
        if (sorry := inside.get("sorry_server")) and sorry.argument():
            self._put(section, _origin(sorry), sorry_server_ip=sorry.words[1])
            if port := sorry.argument(2):
                self._put(section, _origin(sorry), sorry_server_port=port)

    def _real(self, virtual: Section, statement: Statement, delay: str) -> None:
        where = _origin(statement)
        address, port = statement.argument(), statement.argument(2)
        if address is None or port is None:
            self._draft.leave_out(where, "needs an address and a port")
            return
        name = f"{(virtual.get('name') or virtual.entries[0]).value}-{address}-{port}"
        section = self._draft.section("real_server", where)
        self._put(section, where, name=name, ipaddr=address, port=port)
        self._draft.put_item(virtual, "real_server", name, where)
        for one in statement.inside():
            if one.keyword in KINDS:
                for check in self._check(one, delay):
                    self._draft.put_item(section, "check", check, _origin(one))
            elif one.keyword == "weight":
                self._put(section, _origin(one), weight=one.argument() or "")
            elif one.keyword == "inhibit_on_failure":
                self._draft.remark(
                    _origin(one), "a server that is down gets no new connections, and keeps none"
                )
            else:
                self._draft.leave_out(_origin(one), "not supported: use a check")

    def _check(self, statement: Statement, delay: str) -> list[str]:
        """Return the names of the checks that a checker becomes: one for each url, of one kind."""
        where = _origin(statement)
        script = statement.keyword == "MISC_CHECK"
        common = {
            "kind": KINDS[statement.keyword],
            "interval": delay,
            "timeout": delay if script else TIMEOUT,
        }
        retry = RETRIES[statement.keyword]
        urls: list[dict[str, str]] = []
        for one in statement.inside():
            value = one.argument() or ""
            if one.keyword in ("retry", "nb_get_retry"):
                retry = int(value) if value.isdigit() and len(value) < 4 else retry
            elif one.keyword == "url":
                urls.append(self._url(one))
            elif one.keyword == "name" and statement.keyword == "DNS_CHECK":
                common["query"] = value
            elif one.keyword == "misc_path":
                common["script"] = self._command(value, one)
            elif one.keyword == "user":
                common["user"] = " ".join(one.words[1:3])
            elif one.keyword in OPTIONS:
                common[OPTIONS[one.keyword]] = value
            elif one.keyword not in ("enable_sni", "warmup", "alpha", "log_all_failures"):
                self._draft.leave_out(_origin(one), "not supported by checks")
        common["fall"] = str(retry + 1)
        return [self._named(common | url, where) for url in urls or [{}]]

    def _command(self, text: str, statement: Statement) -> str:
        try:
            return shlex.join(split_command(text))
        except ValueError as error:
            self._draft.leave_out(_origin(statement), str(error))
            return ""

    def _url(self, statement: Statement) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in statement.inside():
            if one.keyword in URL:
                found[URL[one.keyword]] = " ".join(one.words[1:])
            else:
                self._draft.leave_out(_origin(one), "not supported by checks")
        return found

    def _named(self, options: dict[str, str], where: Origin) -> str:
        """Return the name of the check with these options; make it if there is none."""
        key = tuple(sorted(options.items()))
        if key not in self._checks:
            self._checks[key] = name = f"{options['kind']}{len(self._checks) + 1}"
            section = self._draft.section("check", where)
            self._put(section, where, name=name)
            for option, value in options.items():
                if option == "status":
                    for one in value.split():
                        self._draft.put_item(section, option, one, where)
                else:
                    self._draft.put(section, option, value, where)
        return self._checks[key]

    def _put(self, section: Section, where: Origin, **options: str) -> None:
        for option, value in options.items():
            self._draft.put(section, option, value, where)


def _origin(statement: Statement) -> Origin:
    return Origin(statement.file, statement.line, masked(statement.words))
