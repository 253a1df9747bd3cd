# SPDX-License-Identifier: GPL-2.0-or-later
"""What keepalived's keywords mean to Tandem.

Most keywords are options of the same name: the tables of `config.options` say which, and why not where
Tandem refuses one. What keepalived changes by itself is `complete`'s.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

from tandem.config import options, values
from tandem.config.options import Option
from tandem.config.problem import suggestion
from tandem.importer.complete import FLOATING, complete, set_interval, set_state
from tandem.importer.draft import Draft, Origin, Section, masked
from tandem.importer.keepalived import Statement, Tree, split_command

_ON, _OFF = ("on", "true", "yes"), ("off", "false", "no")  # check_true_false() of its parser.c
_TOP_LEVEL = (  # keywords of the top level that are options of globals to Tandem
    "linkbeat_use_polling", "net_namespace", "net_namespace_ipvs", "namespace_with_ipsets", "use_pid_dir",
    "instance", "child_wait_time",
)  # fmt: skip
_COMMANDS = ("notify_master", "notify_backup", "notify_fault", "notify_stop", "notify")
_WITH_BLOCK = ("virtual_ipaddress", "virtual_ipaddress_excluded", "virtual_routes", "virtual_rules")
_TRACKS = ("track_interface", "track_script", "track_file", "track_process", "track_bfd")
_STATIC = {
    "static_ipaddress": "address",
    "static_routes": "route",
    "static_rules": "rule",
}
# Words of addresses, routes and rules that change nothing that the network sees, with as many words after.
_HINTS = {
    "no_track": 0, "track_group": 1, "home": 0, "mngtmpaddr": 0, "noprefixroute": 0, "autojoin": 0,
    "hoplimit": 1, "rtt": 1, "rttvar": 1, "reordering": 1, "window": 1, "cwnd": 1, "ssthresh": 1,
    "rto_min": 1, "initcwnd": 1, "initrwnd": 1, "quickack": 1, "congctl": 1, "fastopen_no_cookie": 1,
}  # fmt: skip


def convert(tree: Tree, draft: Draft) -> None:
    """Add what the tree says to the draft."""
    draft.left_out += tree.problems
    first = len(draft.sections)
    converter = _Converter(draft)
    for statement in tree.statements:
        converter.top(statement)
    complete(draft, draft.sections[first:])


def origin(statement: Statement) -> Origin:
    """Where a statement stands, with its text for messages."""
    return Origin(statement.file, statement.line, masked(statement.words))


class _Converter:
    """Adds statement after statement to a draft."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._top: dict[str, Callable[[Statement], None]] = {
            "global_defs": self._globals,
            "vrrp_instance": self._instance,
            "vrrp_sync_group": self._group,
            "vrrp_script": self._script,
            "vrrp_track_process": self._process,
            **dict.fromkeys(_STATIC, self._static),
            **dict.fromkeys(_TOP_LEVEL, self._top_option),
        }

    def top(self, statement: Statement) -> None:
        """One statement of the top level."""
        keyword = statement.keyword
        if keyword in self._top:
            self._top[keyword](statement)
        elif keyword in options.REFUSED_SECTIONS and statement.block == []:
            pass  # OpenWrt's init script writes empty ones
        elif keyword in options.REFUSED_SECTIONS:
            self.draft.leave_out(origin(statement), options.REFUSED_SECTIONS[keyword])
        else:
            known = [*self._top, *options.REFUSED_SECTIONS]
            self.draft.leave_out(origin(statement), "unknown keyword" + suggestion(keyword, known))

    # blocks

    def _globals(self, statement: Statement) -> None:
        section = self.draft.globals(origin(statement))
        for inner in statement.inside():
            if inner.keyword == "script_user":
                self.draft.put(section, "script_user", " ".join(inner.words[1:3]), origin(inner))
            else:
                self._option(section, inner)

    def _top_option(self, statement: Statement) -> None:
        self._option(self.draft.globals(origin(statement)), statement)

    def _instance(self, statement: Statement) -> None:
        name = self._name(statement)
        if name is None:
            return
        section = self.draft.section("vrrp_instance", origin(statement))
        self.draft.put(section, "name", name, origin(statement))
        for inner in statement.inside():
            keyword = inner.keyword
            if keyword == "authentication":
                self._authentication(section, inner)
            elif keyword in _WITH_BLOCK:
                for item in inner.inside():
                    self._item(section, keyword, item)
            elif keyword == "unicast_peer":
                for item in inner.inside():
                    self._peer(section, item)
            elif keyword == "state":
                set_state(self.draft, section, inner.argument() or "", origin(inner))
            elif keyword == "use_vmac":
                self._vmac(section, inner)
            elif keyword == "advert_int":
                set_interval(self.draft, section, inner.argument() or "", origin(inner))
            elif not self._common(section, inner):
                self._option(section, inner)

    def _group(self, statement: Statement) -> None:
        name = self._name(statement)
        if name is None:
            return
        section = self.draft.section("vrrp_sync_group", origin(statement))
        self.draft.put(section, "name", name, origin(statement))
        for inner in statement.inside():
            if inner.keyword == "group":
                for item in inner.inside():
                    for member in item.words:
                        self.draft.put_item(section, "group", member, origin(item))
            elif not self._common(section, inner):
                section.floating |= inner.keyword in FLOATING
                self._option(section, inner)

    def _common(self, section: Section, statement: Statement) -> bool:
        """What instances and groups have in common; False: it is something else."""
        if statement.keyword in _COMMANDS:
            self._command(section, statement)
        elif statement.keyword in _TRACKS:
            # A process is looked for by a script of its name: see `_process`.
            process = statement.keyword == "track_process"
            kind = "track_script" if process else statement.keyword
            for item in statement.inside():
                if self.draft.understood(section, kind, origin(item)):
                    self.draft.put_item(section, kind, item.text, origin(item))
        else:
            return False
        return True

    def _script(self, statement: Statement) -> None:
        name = self._name(statement)
        if name is None:
            return
        section = self.draft.section("vrrp_script", origin(statement))
        self.draft.put(section, "name", name, origin(statement))
        for inner in statement.inside():
            if inner.keyword == "script":
                self._command(section, inner)
            elif inner.keyword in ("weight", "user"):
                self.draft.put(section, inner.keyword, " ".join(inner.words[1:3]), origin(inner))
            elif inner.keyword in ("interval", "timeout") and inner.argument() == "0":
                self.draft.put(section, inner.keyword, "1", origin(inner))  # as keepalived
            else:
                self._option(section, inner)

    def _process(self, statement: Statement) -> None:
        """A process that must run, as a script that looks for it."""
        settings = {inner.keyword: inner for inner in statement.inside()}
        process = settings.get("process")
        if process is None or len(process.words) != 2 or {"param_match", "full_command"} & set(settings):
            reason = "only a process by its name can be looked for: use a vrrp_script"
            self.draft.leave_out(origin(statement), reason)
            return
        name = self._name(statement)
        if name is None:
            return
        section = self.draft.section("vrrp_script", origin(statement))
        self.draft.put(section, "name", name, origin(statement))
        program = process.words[1].rpartition("/")[2]
        self.draft.put(section, "script", shlex.join(["/bin/pidof", program]), origin(process))
        for keyword, inner in settings.items():
            if keyword == "weight":
                self.draft.put(section, "weight", " ".join(inner.words[1:3]), origin(inner))
            elif keyword != "process":
                self.draft.leave_out(origin(inner), "not supported: the process is looked for once a second")
        self.draft.remark(origin(statement), "becomes a vrrp_script that looks for the process once a second")

    def _static(self, statement: Statement) -> None:
        section = self.draft.section(statement.keyword, origin(statement))
        for item in statement.inside():
            self._item(section, _STATIC[statement.keyword], item)

    def _name(self, statement: Statement) -> str | None:
        if len(statement.words) != 2:
            self.draft.leave_out(origin(statement), f"{statement.keyword} needs a name")
            return None
        name = statement.words[1]
        kind = "vrrp_script" if statement.keyword == "vrrp_track_process" else statement.keyword
        for section in self.draft.sections:
            if section.type == kind and (entry := section.get("name")) and entry.value == name:
                reason = f"there is one of this name at line {section.origin.line}, and that counts"
                self.draft.leave_out(origin(statement), reason)
                return None
        return name

    # options

    def _option(self, section: Section, statement: Statement) -> None:
        """A keyword that is an option of the same name: with a value, or a switch."""
        keyword, value = statement.keyword, statement.argument()
        where = origin(statement)
        if not self.draft.understood(section, keyword, where):
            return
        entry = section.table[keyword]
        assert isinstance(entry, Option)
        if entry.kind is values.SWITCH:
            if value is not None and value.lower() in _OFF:
                self.draft.put(section, keyword, "0", where)
            elif value is None or value.lower() in _ON:
                self.draft.put(section, keyword, "1", where)
            else:
                self.draft.leave_out(where, "takes on or off")
        elif value is None:
            self.draft.leave_out(where, "needs a value")
        else:
            if len(statement.words) > 2:
                self.draft.remark(where, f"only '{value}' counts")
            self.draft.put(section, keyword, value, where)

    def _item(self, section: Section, name: str, statement: Statement) -> None:
        """An address, a route or a rule, without the words that change nothing on the network."""
        kept: list[str] = []
        words = iter(statement.words)
        for word in words:
            if word in _HINTS and not (kept and kept[-1] in ("dev", "label")):
                following = [next(words, "") for _ in range(_HINTS[word])]
                hint = " ".join([word, *following])
                self.draft.leave_out(origin(statement), f"'{hint}' is not supported; the rest is imported")
            else:
                kept.append(word)
        self.draft.put_item(section, name, " ".join(kept), origin(statement))

    def _peer(self, section: Section, statement: Statement) -> None:
        self.draft.put_item(section, "unicast_peer", statement.keyword, origin(statement))
        words = list(statement.words[1:])
        if words:
            section.set("check_unicast_src", "1", origin(statement))  # as keepalived
        least = 1
        if "min_ttl" in words[:-1]:
            at = words.index("min_ttl")
            number = words[at + 1]
            if number.isascii() and number.isdigit() and int(number) <= 255:
                least = max(1, int(number))
                del words[at : at + 2]
        before = section.get("unicast_min_ttl")  # one for all peers: the least of them loses none
        least = least if before is None else min(least, int(before.value))
        section.set("unicast_min_ttl", str(least), origin(statement))
        if words:
            limits = " ".join(words)
            self.draft.leave_out(origin(statement), f"'{limits}' is not supported; the peer is imported")

    def _authentication(self, section: Section, statement: Statement) -> None:
        for inner in statement.inside():
            self._option(section, inner)
        kind, password = section.get("auth_type"), section.get("auth_pass")
        if password is None and kind is not None:
            self.draft.leave_out(kind.origin, "no password is given, and so keepalived ignores it as well")
            section.remove("auth_type")
        elif kind is None and password is not None:
            self.draft.leave_out(password.origin, "without auth_type, keepalived ignores it as well")
            section.remove("auth_pass")

    def _vmac(self, section: Section, statement: Statement) -> None:
        name = "1"
        for word in statement.words[1:3]:
            if ":" in word:
                reason = f"the MAC address {word} is not supported: it is 00:00:5e:00:01:VRID"
                self.draft.leave_out(origin(statement), reason)
            else:
                name = word
        self.draft.put(section, "use_vmac", name, origin(statement))

    def _script_user(self) -> str:
        settings = next((section for section in self.draft.sections if section.type == "globals"), None)
        user = settings.get("script_user") if settings else None
        return user.value.split()[0] if user else "root"

    def _command(self, section: Section, statement: Statement) -> None:
        where = origin(statement)
        try:
            words = split_command(statement.raw)
            command = split_command(words[1]) if len(words) > 1 else []
        except ValueError as error:
            self.draft.leave_out(where, str(error))
            return
        if not command:
            self.draft.leave_out(where, "needs a command")
            return
        self.draft.put(section, statement.keyword, shlex.join(command), where)
        rest = " ".join(words[2:])
        if rest and statement.keyword == "script":
            self.draft.leave_out(where, f"'{rest}' is no argument without quotes around it all")
        elif rest and words[2] != self._script_user():
            reason = f"the user '{rest}' is not imported: Tandem has one script_user for all, in globals"
            self.draft.leave_out(where, reason)
