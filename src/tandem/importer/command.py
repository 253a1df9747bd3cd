# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem import` makes a configuration for Tandem from one of keepalived and conntrackd, or of ucarp."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from tandem.config.problem import Problem
from tandem.console import DONE, FAILED, UNUSABLE, complain, print_lines
from tandem.files import write_private

if TYPE_CHECKING:
    from tandem.importer.draft import Draft
    from tandem.importer.sources import Includes


def run(arguments: argparse.Namespace) -> int:
    """Import, print the options that have no equivalent, and write the result."""
    from tandem.importer import complete, scripts, sources
    from tandem.importer.draft import Draft
    from tandem.importer.sources import Includes

    includes = Includes(arguments.root)
    if (mistake := _mistake(arguments)) or not (texts := _texts(arguments, includes)):
        complain([mistake] if mistake else [])
        return UNUSABLE
    draft = Draft()
    _convert(texts, draft, arguments, includes)
    scripts.leave_to_replication(draft)
    errors = draft.settle()
    if complete.keep_untranslated(draft):
        errors = draft.settle()
    if not draft.sections:
        complain(["there is nothing in it that could be imported"])
    elif not errors:
        alone = all(sources.kind_of(text) == sources.CONNTRACKD for _, text in texts)
        errors = tuple(complete.verdict(draft, alone))
    errors += tuple(draft.lost)
    _explain(draft)
    print_lines(sys.stderr, (f"not imported: {problem}" for problem in draft.left_out))
    print_lines(sys.stderr, (f"note: {problem}" for problem in draft.remarks))
    print_lines(sys.stderr, (f"error: {problem}" for problem in errors))
    if not _write(draft.render([name for name, _ in texts]), arguments):
        return UNUSABLE
    return FAILED if errors or not draft.sections else DONE


def _explain(draft: Draft) -> None:
    """Print how the result differs from the imported configuration."""
    if draft.config is None:
        return
    channel = next((section for section in draft.sections if section.type == "peer"), None)
    if channel is not None and not draft.config.peers and (secret := channel.get("secret_file")):
        reason = (
            f"the peer is switched off, because the channel to it needs a secret, and {secret.value} is not"
            " there: make one, copy it to the other router, and set enabled to 1 on both"
        )
        draft.remarks.append(Problem("tandem", 0, reason))


def _mistake(arguments: argparse.Namespace) -> str | None:
    """Return the error in the options, or None."""
    from tandem.config.sync_values import read_secret
    from tandem.config.syntax.path import read_paths

    try:
        if arguments.peer is not None:
            read_paths(arguments.peer)
        if arguments.secret_file is not None:
            read_secret(arguments.secret_file)
    except ValueError as error:
        return str(error)
    if arguments.output and not arguments.force and os.path.lexists(arguments.output):
        return f"{arguments.output} is there already; --force replaces it"
    return None


def _texts(arguments: argparse.Namespace, includes: Includes) -> list[tuple[str, str]]:
    """Return name and text of each file; an empty list after printing which file can't be read."""
    from tandem.importer import sources

    files = arguments.files
    if not files:
        there = [includes.below_root(path) for path in sources.DEFAULT_FILES]
        files = [path for path in there if os.path.isfile(path)][:1]
        more = [includes.below_root(path) for path in sources.MORE_FILES]
        files += [path for path in more if os.path.isfile(path)] if files else []
        if not files:
            complain([f"there is neither {' nor '.join(there)}: name a file"])
    texts = []
    for file in files:
        try:
            texts.append((file, sys.stdin.read(sources.LARGEST) if file == "-" else sources.read(file)))
        except (OSError, ValueError) as error:
            complain([f"{file}: {getattr(error, 'strerror', None) or error}"])
            return []
    return texts


def _convert(
    texts: list[tuple[str, str]], draft: Draft, arguments: argparse.Namespace, includes: Includes
) -> None:
    from tandem.config import uci
    from tandem.importer import conntrackd, dhcp, sources, ucarp

    kinds = [(sources.kind_of(text), name, text) for name, text in texts]
    for kind, name, text in kinds:
        if kind == sources.UCARP:
            ucarp.convert(text, name, draft)
        elif kind == sources.UCI:
            _uci(text, name, draft, arguments, includes)
        elif kind == sources.KEEPALIVED:
            _keepalived(text, name, draft, arguments, includes)
    # Options about instances' addresses are converted when all instances are known.
    secret_file = arguments.secret_file or conntrackd.DEFAULT_SECRET
    for kind, name, text in kinds:
        if kind == sources.UCI:
            sections = uci.read(text, name).sections
            dhcp.convert([section for section in sections if section.type in dhcp.SECTIONS], name, draft)
        elif kind == sources.CONNTRACKD:
            there = os.path.exists(secret_file)
            conntrackd.convert(conntrackd.parse(text, name), draft, arguments.peer, secret_file, there)


def _keepalived(
    text: str, name: str, draft: Draft, arguments: argparse.Namespace, includes: Includes
) -> None:
    from tandem.importer import convert, keepalived, sources

    config_id = arguments.id or os.uname().nodename.partition(".")[0]
    tree = keepalived.parse(text, name, config_id, includes)
    convert.convert(tree, draft, sources.surroundings(arguments.root))


def _uci(text: str, name: str, draft: Draft, arguments: argparse.Namespace, includes: Includes) -> None:
    """Convert OpenWrt's file, or the keepalived.conf that it names instead."""
    from tandem.config import uci
    from tandem.importer import openwrt, sources

    document = uci.read(text, name)
    other = openwrt.alternative(document)
    if other is not None:
        path, line = includes.below_root(other[0]), other[1]
        try:
            found = sources.read(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            draft.leave_out(
                openwrt.where(name, line, other[0]), f"{reason}; the rest of this file is imported"
            )
        else:
            _keepalived(found, path, draft, arguments, includes)
            return
    openwrt.convert(document, name, draft, sources.surroundings(arguments.root))
    hotplug = includes.below_root("/etc/hotplug.d/keepalived")
    if any(section.type == "vrrp_instance" for section in draft.sections) and os.path.isdir(hotplug):
        reason = f"scripts in {hotplug} belong into /etc/hotplug.d/tandem, which gets the same variables"
        draft.remarks.append(Problem(name, 0, reason))


def _write(text: str, arguments: argparse.Namespace) -> bool:
    """Write the result for root alone, as it may hold passwords; return whether this succeeded."""
    if not arguments.output:
        sys.stdout.write(text)
        return True
    try:
        write_private(arguments.output, text)
    except OSError as error:
        complain([f"{arguments.output}: {error.strerror or error}"])
        return False
    return True
