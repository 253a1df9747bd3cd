# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem upgrade --sysupgrade IMAGE`: a new image for this router, while the other one has the role.

The router goes into standby, which lasts over the reboot. A note beside the standby file says that the
standby is for the image only. The init script finds the note when the router is back, and has `tandem upgrade
--return` wait until the router is in step; that ends the standby.
"""

from __future__ import annotations

import os
import subprocess
import time

from tandem import files
from tandem.console import DONE, FAILED, complain
from tandem.control import DEFAULT_SOCKET
from tandem.control.client import ControlError, ask
from tandem.programs import PATH, find_program
from tandem.upgrade.view import PairView
from tandem.upgrade.watch import Watch, peer_of

BY = "tandem upgrade --sysupgrade"
NOTE = "/etc/tandem/returning"  # /lib/upgrade/keep.d/tandem and /etc/init.d/tandem name it
HAND_OVER_S = 60.0
RETURN_S = 3600.0
_PAUSE_S = 1.0


def note_file(control: str) -> str:
    """Return the path of the note; with another control socket it lies beside that."""
    return NOTE if control == DEFAULT_SOCKET else f"{control}.returning"


def sysupgrade(image: str, control: str, accepts: bool) -> int:
    """Hand over, go into standby, and have sysupgrade install the image, which ends this router's life."""
    watch = Watch(control, ask(control, "status"))
    pair = watch.look()
    if why := pair.trouble_of_roles:
        return _stop(f"{why}; nothing was changed")
    if why := _unfit(image):
        return _stop(f"{why}; nothing was changed")
    print("the doctor looks at both routers", flush=True)
    if (findings := watch.examine()) and not accepts:
        return _stop(*findings, "mend that, or use --force if you know it does no harm; nothing was changed")
    note = note_file(control)
    ask(control, "standby", by=BY)
    try:
        print(f"{pair.there.name} takes over", flush=True)
        if not _handed_over(watch):
            return _back(control, f"{pair.there.name} has not taken over: run `tandem why` on both routers")
        files.replace(note, _boot(), 0o600, sync=True)
        print("sysupgrade begins; this router is in standby until it is back and in step", flush=True)
        done = subprocess.run([find_program("sysupgrade"), image], env={"PATH": PATH, "HOME": "/root"})
        if done.returncode:
            os.unlink(note)
            return _back(control, f"sysupgrade failed ({done.returncode})")
    except OSError as error:
        return _back(control, f"{error.filename}: {error.strerror}")
    return DONE


def come_back(control: str) -> int:
    """Wait after an installation until this router is in step, and end the standby."""
    note = note_file(control)
    try:
        if files.read(note, 64) == _boot():
            return DONE  # the router has not been restarted: sysupgrade is still at work
    except FileNotFoundError:
        return DONE
    end = time.monotonic() + RETURN_S
    why = "no daemon answered"
    while time.monotonic() < end:
        try:
            status = ask(control, "status")
            name = peer_of(status)
            peer = next(peer for peer in status["peers"] if peer["name"] == name)
            if peer["connected"] and peer["connections"] in ("in step", "off"):
                ask(control, "resume", by=BY)
                os.unlink(note)
                return DONE
            why = f"connections: {peer['connections']}"
        except (ControlError, KeyError) as error:
            why = str(error)
        time.sleep(_PAUSE_S)
    complain([f"still in standby, as this router is not in step after {RETURN_S:g} s ({why}): tandem resume"])
    return FAILED


def _unfit(image: str) -> str:
    """Return why sysupgrade would refuse the image; empty: it would not."""
    program = find_program("sysupgrade")
    if not os.access(program, os.X_OK):
        return f"there is no {program}: this is for OpenWrt"
    if not os.path.isfile(image):
        return f"{image}: no such file"
    done = subprocess.run([program, "--test", image], capture_output=True, text=True, env={"PATH": PATH})
    said = (done.stderr or done.stdout).strip().splitlines()[-3:]
    return f"sysupgrade refuses {image}: {' | '.join(said)}" if done.returncode else ""


def _handed_over(watch: Watch) -> bool:
    """Wait until the other router is active for all groups."""
    end = time.monotonic() + HAND_OVER_S
    while time.monotonic() < end:
        pair: PairView = watch.look()
        if pair.there.states and set(pair.there.states) == {"MASTER"} and "MASTER" not in pair.here.states:
            return True
        time.sleep(_PAUSE_S)
    return False


def _boot() -> bytes:
    """Return what tells this boot from the next one."""
    return files.read("/proc/sys/kernel/random/boot_id", 64)


def _back(control: str, why: str) -> int:
    ask(control, "resume", by=BY)
    return _stop(f"{why}; the standby has ended")


def _stop(*sentences: str) -> int:
    complain(sentences)
    return FAILED
