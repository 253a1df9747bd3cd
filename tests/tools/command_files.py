# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that are made from the table of commands (tandem/control/command_table.py)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from textwrap import dedent

from tandem.control.command import CONTROL, Argument, Command
from tandem.control.command_table import EPILOG, PROGRAM, TABLE

SOURCE = "src/tandem/control/command_table.py"
MADE = f"Made from {SOURCE} by `make generated`."
LINKS = "files/usr/share/tandem/commands"
SHOWN = [command for command in TABLE if command.summary]
_LISTS = {
    "interface": "ls /sys/class/net",
    "group": "tandem status --json 2>/dev/null |"
    r""" sed -n '/^  "groups"/,/^  ]/s/^      "name": "\(.*\)",$/\1/p'""",
}


def texts() -> dict[str, str]:
    """Path and text of each file."""
    return {
        "src/tandem/control/requests.py": _requests(),
        **{f"files/usr/share/rpcd/acl.d/{name}.json": text for name, text in _acl()},
        "files/usr/libexec/rpcd/tandem.commands": _plugin(),
        "files/usr/share/bash-completion/completions/tandem": _bash(),
        "docs/commands.md": _page(),
    }


def links() -> dict[str, str]:
    """Path and target of each link: a directory in PATH whose names ash completes."""
    names = [command.name for command in SHOWN if " " not in command.name]
    return {f"{LINKS}/tandem-{name}": "../../../bin/tandem" for name in names}


def _requests() -> str:
    lines = [
        "# SPDX-License-Identifier: GPL-2.0-or-later",
        '"""The requests that the daemon answers: each with its arguments, which are optional texts.',
        "",
        MADE,
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "REQUESTS: dict[str, tuple[str, ...]] = {",
    ]
    for command in TABLE:
        if command.request is not None:
            names = ", ".join(json.dumps(name) for name in command.request)
            lines.append(f'    "{command.method}": ({names}{"," if len(command.request) == 1 else ""}),')
    methods = [json.dumps(c.method) for c in TABLE if c.access and c.plugin is None]
    lines += [
        "}",
        "# The requests that are methods of the object `tandem` on ubus.",
        "METHODS = (",
        *(f"    {method}," for method in methods),
        ")",
    ]
    return "\n".join(lines) + "\n"


def _acl() -> Iterator[tuple[str, str]]:
    """A file for each group, so that an installed package may bring another one."""
    for access in dict.fromkeys(command.access for command in TABLE if command.access):
        commands = [command for command in TABLE if command.access == access]
        rights: dict[str, object] = {
            "ubus": {
                "tandem": [c.method for c in commands if c.plugin is None],
                "tandem.commands": [c.method for c in commands if c.plugin is not None],
            }
        }
        if access.uci:
            rights["uci"] = {"tandem": list(access.uci)}
        group = {access.group: {"description": access.description, access.kind: rights}}
        text = json.dumps(group, indent="\t")
        flat = re.sub(r"\[[^]]*\]", lambda array: f"[ {' '.join(array[0][1:-1].split())} ]", text)
        yield access.group, flat + "\n"


def _plugin() -> str:
    """The program that rpcd starts: once to learn the methods, and once for each call."""
    signatures = {command.method: command.plugin for command in TABLE if command.plugin is not None}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(given)}" for name, given in signatures.items())
    return f"""\
#!/bin/sh
# {MADE}
case $1 in
list)
	cat <<'END'
{{
{lines}
}}
END
	;;
call)
	exec /usr/bin/python3 -I -c '
import sys
sys.path.insert(0, "/usr/lib/tandem")
from tandem.rpcd.plugin import main
sys.exit(main(sys.argv[1]))' "$2"
	;;
esac
"""


# Completion for bash


def _bash() -> str:
    values: dict[str, list[str]] = {}  # how the value of which options is completed
    for command in SHOWN:
        for argument in command.arguments:
            if argument.is_option and argument.has_value and not argument.is_hidden:
                names = [f"{shlex.quote(command.name)}:{name}" for name in argument.names]
                values.setdefault(_completer(argument), []).extend(names)
    values.setdefault(_completer(CONTROL), []).append(f"*:{CONTROL.names[0]}")
    top = " ".join(command.name for command in SHOWN if " " not in command.name)
    lines = [
        "# shellcheck shell=bash",
        f"# {MADE}",
        "_tandem() {",
        "\tlocal cur=$2 command='' words='' i word",
        "\tfor ((i = 1; i < COMP_CWORD; i++)); do",
        "\t\tword=${command:+$command }${COMP_WORDS[i]}",
        "\t\tcase $word in",
        f"\t\t{' | '.join(shlex.quote(command.name) for command in SHOWN)}) command=$word ;;",
        "\t\tesac",
        "\tdone",
        "\tcase $command:$3 in",
        *(f"\t{' | '.join(names)}) words={shlex.quote(how)} ;;" for how, names in values.items()),
        "\t*)",
        "\t\tcase $command:$cur in",
        f"\t\t:-*) words='{' '.join(CONTROL.names)} --help' ;;",
        f"\t\t:*) words='{top}' ;;",
        *(f"\t\t{line} ;;" for command in SHOWN for line in _bash_cases(command)),
        "\t\tesac",
        "\t\t;;",
        "\tesac",
        "\tcase $words in",
        *(f"\t{kind}) words=$({program}) ;;" for kind, program in _LISTS.items()),
        "\tfiles)",
        '\t\tmapfile -t COMPREPLY < <(compgen -f -- "$cur")',
        "\t\treturn",
        "\t\t;;",
        "\tesac",
        '\tmapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")',
        "}",
        "complete -F _tandem tandem",
    ]
    return "\n".join(lines) + "\n"


def _bash_cases(command: Command) -> Iterator[str]:
    """The words that may stand after a command: its options, and what has no dash."""
    options = [
        name
        for argument in (*command.arguments, CONTROL)
        if argument.is_option and not argument.is_hidden
        for name in argument.names
        if name.startswith("--")
    ]
    yield f"{shlex.quote(command.name)}:-*) words='{' '.join(options)} --help'"
    below = [other.name for other in SHOWN if other.name.rpartition(" ")[0] == command.name]
    if below:
        yield f"{command.name}:*) words='{' '.join(name.rpartition(' ')[2] for name in below)}'"
    for argument in command.arguments:
        if not argument.is_option and (how := _completer(argument)):
            yield f"{shlex.quote(command.name)}:*) words={shlex.quote(how)}"


def _completer(argument: Argument) -> str:
    """A kind of value, or the words themselves; "": a value that nobody knows."""
    choices = () if "metavar" in argument.keywords else argument.keywords.get("choices", ())
    return argument.completes or " ".join(map(str, choices))


# docs/commands.md


def _page() -> str:
    parts = [
        f"# Commands\n\n<!-- {MADE} -->\n",
        f"`tandem`: {PROGRAM[0].lower()}{PROGRAM[1:]}\n",
        _block(EPILOG.partition("\n")[2].partition("\n\n")[0]),
        EPILOG.partition("\n\n")[2].replace("exit status:", "\nExit status:") + ".\n",
        f"Every command has `{_synopsis(CONTROL)}`: {CONTROL.keywords['help']}.\n",
    ]
    for command in SHOWN:
        parts += _section(command)
    return "\n".join(parts)


def _section(command: Command) -> Iterator[str]:
    yield f"## tandem {command.name}\n"
    yield f"{command.summary[0].upper()}{command.summary[1:]}.\n"
    yield f"    {_usage(command)}\n"
    yield f"{command.details}\n"
    shown = [argument for argument in command.arguments if not argument.is_hidden]
    if shown:
        rows = [f"| `{_synopsis(argument)}` | {argument.keywords['help']} |" for argument in shown]
        yield "\n".join(["| argument | |", "|---|---|", *rows]) + "\n"
    yield _block(command.examples)
    if command.package:
        yield f"On OpenWrt, the package `{command.package}` has this command.\n"
    if command.access:
        names = command.request or () if command.plugin is None else command.plugin
        arguments = "".join(f', "{name}": "..."' for name in names)
        where = "tandem" if command.plugin is None else "tandem.commands"
        call = f"ubus call {where} {command.method}" + (f" '{{{arguments[2:]}}}'" if arguments else "")
        yield f"On ubus: `{call}`, ACL group `{command.access.group}`.\n"


def _block(text: str) -> str:
    return f"```sh\n{dedent(text)}\n```\n"


def _usage(command: Command) -> str:
    words = [f"tandem {command.name}"]
    for argument in command.arguments:
        if not argument.is_hidden:
            optional = argument.is_option or argument.keywords.get("nargs") in ("?", "*")
            words.append(f"[{_synopsis(argument)}]" if optional else _synopsis(argument))
    return " ".join(words)


def _synopsis(argument: Argument) -> str:
    """The argument as a user writes it, with every name that an option has."""
    value = argument.keywords.get("metavar", "")
    if choices := argument.keywords.get("choices") if not value else None:
        value = "|".join(map(str, choices))
    if argument.is_option:
        names = ", ".join(argument.names)
        if not argument.has_value:
            return names
        return f"{names} [{value}]" if argument.keywords.get("nargs") == "?" else f"{names} {value}"
    return f"{value} ..." if argument.keywords.get("nargs") == "*" else str(value)
