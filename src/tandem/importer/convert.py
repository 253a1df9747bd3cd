# SPDX-License-Identifier: GPL-2.0-or-later
"""The meaning of keepalived's keywords to Tandem.

Most keywords are options of the same name: the tables of `config.options` say which, and why not where
Tandem refuses one. `reading` and `items` know how keepalived reads a value, and `complete` what keepalived
changes when it has read everything.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from tandem.config import options, values
from tandem.config.option import Option
from tandem.config.problem import suggestion
from tandem.importer import items, reading
from tandem.importer.balance import Servers
from tandem.importer.complete import FLOATING, complete, set_interval, set_state
from tandem.importer.draft import Draft, Origin, Section, masked
from tandem.importer.keepalived import Statement, Tree, split_command
from tandem.importer.scripts import NOTIFIES, Surroundings, put_command

_TOP_LEVEL = (  # keywords of the top level that are options of globals to Tandem
    "linkbeat_use_polling", "net_namespace", "net_namespace_ipvs", "namespace_with_ipsets", "use_pid_dir",
    "instance", "child_wait_time",
)  # fmt: skip
_WITH_BLOCK = ("virtual_ipaddress", "virtual_ipaddress_excluded", "virtual_routes", "virtual_rules")
_TRACKS = ("track_interface", "track_script", "track_file", "track_process", "track_bfd")
_STATIC = {
    "static_ipaddress": "address",
    "static_routes": "route",
    "static_rules": "rule",
}
_CONTRARY = {"accept": "no_accept", "no_accept": "accept", "preempt": "nopreempt", "nopreempt": "preempt"}
_FAMILY = ("native_ipv6", "mcast_src_ip", "unicast_src_ip", "mcast_dst_ip")  # settle an instance's family
_UNWRITABLE = re.compile(r"[\s'\"]")  # in a name


def convert(tree: Tree, draft: Draft, surroundings: Surroundings | None = None) -> None:
    """Add what the tree says to the draft."""
    draft.left_out += tree.problems
    first = len(draft.sections)
    converter = _Converter(draft, surroundings or Surroundings())
    for statement in tree.statements:
        converter.top(statement)
    complete(draft, draft.sections[first:])


def origin(statement: Statement) -> Origin:
    """Return the file and line of a statement, with its text for messages."""
    return Origin(statement.file, statement.line, masked(statement.words))


class _Converter:
    """Adds statement after statement to a draft."""

    def __init__(self, draft: Draft, surroundings: Surroundings) -> None:
        self.draft, self.surroundings = draft, surroundings
        self.names: dict[tuple[str, str], str] = {}  # kind and name: what it is called here
        self.family: int | None = None  # of the instance that is being read: its first address decides
        self._top: dict[str, Callable[[Statement], None]] = {
            "global_defs": self._globals,
            "vrrp_instance": self._instance,
            "vrrp_sync_group": self._group,
            "vrrp_script": self._script,
            "vrrp_track_process": self._process,
            "virtual_server": Servers(draft).add,
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
        self.family = None
        for inner in statement.inside():
            keyword = inner.keyword
            if keyword == "authentication":
                self._authentication(section, inner)
            elif keyword in _WITH_BLOCK:
                section.lists.add(keyword)
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
            elif keyword in _FAMILY and not self._agrees(_settled(inner), inner):
                pass  # said already
            elif not self._common(section, inner):
                self._option(section, inner)

    def _agrees(self, family: int, statement: Statement) -> bool:
        """Return whether an address is of the instance's family, which is that of its first one."""
        self.family = self.family or family
        if family != self.family:
            reason = f"is not IPv{self.family}, as what stands before it: keepalived ignores it as well"
            self.draft.leave_out(origin(statement), reason)
        return family == self.family

    def _group(self, statement: Statement) -> None:
        name = self._name(statement)
        if name is None:
            return
        section = self.draft.section("vrrp_sync_group", origin(statement))
        self.draft.put(section, "name", name, origin(statement))
        members: Statement | None = None
        for inner in statement.inside():
            if inner.keyword == "group":
                if members is not None and members.inside():
                    self.draft.leave_out(origin(inner), f"the group of line {members.line} counts")
                    continue
                members = inner
                for item in inner.inside():
                    for member in item.words:
                        name = self._called("vrrp_instance", member)
                        self.draft.put_item(section, "group", name, origin(item))
            elif not self._common(section, inner):
                section.floating |= inner.keyword in FLOATING
                self._option(section, inner)

    def _common(self, section: Section, statement: Statement) -> bool:
        """Read a keyword that instances and groups have in common; return False for any other."""
        if statement.keyword in NOTIFIES:
            if before := section.get(statement.keyword):
                reason = f"the one of line {before.origin.line} counts, as in keepalived"
                self.draft.leave_out(origin(statement), reason)
            else:
                self._command(section, statement)
        elif statement.keyword in _TRACKS:
            for item in statement.inside():
                self._track(section, statement.keyword, item)
        else:
            return False
        return True

    def _track(self, section: Section, keyword: str, item: Statement) -> None:
        # A process is looked for by a script of its name: see `_process`.
        kind = "track_script" if keyword == "track_process" else keyword
        where = origin(item)
        if not self.draft.understood(section, kind, where):
            return
        words = list(item.words)
        default = 0
        if kind == "track_script":
            words[0] = self._called("vrrp_script", words[0])
            default = self._script_weight(words[0])
        if any(e.name == kind and e.value.partition(" ")[0] == words[0] for e in section.entries):
            self.draft.leave_out(where, "it is tracked already, and the first line counts, as in keepalived")
            return
        found = items.track(kind, words, default)
        self._note(where, found.notes, found.text is None)
        if found.text is not None:
            self.draft.put_item(section, kind, found.text, where)

    def _script_weight(self, name: str) -> int:
        for section in self.draft.sections:
            if section.type == "vrrp_script" and (entry := section.get("name")) and entry.value == name:
                weight = section.get("weight")
                return int(weight.value.partition(" ")[0]) if weight else 0
        return 0

    def _note(self, where: Origin, notes: list[str], lost: bool) -> None:
        for note in notes:
            if lost or "not supported" in note:
                self.draft.leave_out(where, note)
            else:
                self.draft.remark(where, note)

    def _script(self, statement: Statement) -> None:
        name = self._name(statement)
        if name is None:
            return
        section = self.draft.section("vrrp_script", origin(statement))
        self.draft.put(section, "name", name, origin(statement))
        for inner in statement.inside():
            if inner.keyword == "script":
                self._command(section, inner)
            elif inner.keyword == "user":
                self.draft.put(section, inner.keyword, " ".join(inner.words[1:3]), origin(inner))
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
                self._option(section, inner)
            elif keyword != "process":
                self.draft.leave_out(origin(inner), "not supported: the process is looked for once a second")
        self.draft.remark(origin(statement), "becomes a vrrp_script that looks for the process once a second")

    def _static(self, statement: Statement) -> None:
        section = self.draft.section(statement.keyword, origin(statement))
        self.family = None
        for item in statement.inside():
            self._item(section, _STATIC[statement.keyword], item)

    def _name(self, statement: Statement) -> str | None:
        """The name of a block as Tandem writes it; None: the block does not count."""
        kind = "vrrp_script" if statement.keyword == "vrrp_track_process" else statement.keyword
        if len(statement.words) != 2 and not (kind == "vrrp_script" and len(statement.words) > 2):
            self.draft.leave_out(origin(statement), f"{statement.keyword} needs a name")
            return None
        name = self._called(kind, statement.words[1])
        for section in self.draft.sections:
            if section.type == kind and (entry := section.get("name")) and entry.value == name:
                reason = f"there is one of this name at line {section.origin.line}, and that counts"
                self.draft.leave_out(origin(statement), reason)
                return None
        if name != statement.words[1]:
            self.draft.remark(origin(statement), f"is called {name} here: names have no blanks and quotes")
        return name

    def _called(self, kind: str, name: str) -> str:
        """Return the name here for the name there: without blanks and quotes, and still unique."""
        if (kind, name) in self.names:
            return self.names[kind, name]
        found = stem = _UNWRITABLE.sub("_", name)[:60]
        taken = {called for (other, _), called in self.names.items() if other == kind}
        number = 1
        while found in taken:
            number += 1
            found = f"{stem}_{number}"
        self.names[kind, name] = found
        return found

    # options

    def _option(self, section: Section, statement: Statement) -> None:
        """A keyword that is an option of the same name: with a value, or a switch."""
        keyword, value = statement.keyword, statement.argument()
        where = origin(statement)
        if not self.draft.understood(section, keyword, where):
            return
        entry = section.table[keyword]
        assert isinstance(entry, Option)
        if (found := reading.read(section.type, keyword, statement.words[1:])) is not None:
            self._read(section, statement, found)
        elif entry.kind is values.SWITCH:
            self._read(section, statement, reading.switch(statement.words[1:]))
        elif value is None:
            self.draft.leave_out(where, "needs a value")
        else:
            if len(statement.words) > 2:
                self.draft.remark(where, f"only '{value}' counts")
            self.draft.put(section, keyword, value, where)

    def _read(self, section: Section, statement: Statement, found: reading.Reading) -> None:
        keyword, where = statement.keyword, origin(statement)
        if found.text is None:
            self.draft.leave_out(where, found.note)
            return
        if found.note:
            self.draft.remark(where, found.note)
        if keyword == "version" and (before := section.get("version")) and before.value != found.text:
            self.draft.leave_out(where, f"version {before.value} of line {before.origin.line} counts")
            return
        if keyword in _CONTRARY:
            section.remove(_CONTRARY[keyword])  # the last one counts
        self.draft.put(section, keyword, found.text, where)

    def _item(self, section: Section, name: str, statement: Statement) -> None:
        """An address, a route or a rule."""
        if "route" in name:
            found = items.route(statement.words, self.surroundings.tables)
        elif "rule" in name:
            found = items.rule(statement.words, self.surroundings.tables)
        else:
            if name == "virtual_ipaddress" and not self._agrees(_version(statement.keyword), statement):
                return
            found = items.address(statement.words)
        self._note(origin(statement), found.notes, found.text is None)
        if found.text is not None:
            self.draft.put_item(section, name, found.text, origin(statement))

    def _peer(self, section: Section, statement: Statement) -> None:
        if not self._agrees(_version(statement.keyword), statement):
            return
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
            if inner.keyword in ("auth_type", "auth_pass"):
                self._option(section, inner)
            else:
                known = ("auth_type", "auth_pass")
                reason = "unknown keyword" + suggestion(inner.keyword, known)
                self.draft.leave_out(origin(inner), reason)
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
        put_command(self.draft, section, statement.keyword, command, where, self.surroundings)
        rest = " ".join(words[2:])
        if rest and statement.keyword == "script":
            self.draft.leave_out(where, f"'{rest}' is no argument without quotes around it all")
        elif rest and words[2] != self._script_user():
            reason = f"the user '{rest}' is not imported: Tandem has one script_user for all, in globals"
            self.draft.leave_out(where, reason)


def _version(text: str) -> int:
    """The family of an address, as keepalived tells it before it reads the address."""
    return 6 if ":" in text else 4


def _settled(statement: Statement) -> int:
    """The family of an option that settles the instance's."""
    return 6 if statement.keyword == "native_ipv6" else _version(statement.argument() or "")
