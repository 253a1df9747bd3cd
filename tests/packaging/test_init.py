# SPDX-License-Identifier: GPL-2.0-or-later
"""The init script's decisions, with stand-ins for rc.common and procd.sh: everywhere, and in a second.

test_opkg.py runs it with the real ones.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.wait import wait_until
from tests.packaging.packages import REPOSITORY

SCRIPT = REPOSITORY / "files/etc/init.d/tandem"
# The names that OpenWrt's rc.common and procd.sh give to an init script; each call is a line.
STAND_IN = """
call() { echo "$*"; }
for name in open_instance close_instance set_param add_reload_trigger kill; do
    eval "procd_$name() { call $name \\"\\$@\\"; }"
done
logger() { sed 's/^/log: /'; }
running() { [ -n "$RUNNING" ]; }
enabled() { [ -z "$DISABLED" ]; }
. "$1"
PROG=$2/tandemd CLI=$2/tandem CONFIG=$2/config SOCKET=$2/socket LOCK=$2/lock DHCP=$2/tandem-dhcp
RETURNING=$2/returning
start() { start_service; }
stop() { procd_kill tandem; service_stopped; }
reload() { reload_service; }
triggers() { service_triggers; }
$3
"""
GOOD = "config globals\n\toption enabled '1'\n"


class Service:
    """The init script with the real tandemd --check, and a `tandem` that says what it was called with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.write(
            "tandemd", f'#!/bin/sh\nexec "{sys.executable}" "{REPOSITORY}/files/usr/sbin/tandemd" "$@"\n'
        )
        self.write("tandem", '#!/bin/sh\necho "tandem $*"\n')
        self.write("tandem-dhcp", '#!/bin/sh\necho "dhcp $*"\n')
        self.configure(GOOD)

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)
        (self.directory / name).chmod(0o755)

    def configure(self, text: str) -> None:
        (self.directory / "config").write_text(text)

    def run(self, action: str, running: bool = False, disabled: bool = False) -> tuple[int, list[str], str]:
        """The exit status, what was called, and what is on the console."""
        done = subprocess.run(
            ["/bin/sh", "-c", STAND_IN, "sh", str(SCRIPT), str(self.directory), action],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"RUNNING": "1" if running else "", "DISABLED": "1" if disabled else ""},
        )
        return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def test_start(service: Service) -> None:
    status, calls, console = service.run("start")
    assert (status, console) == (0, "")
    command = f"{service.directory}/tandemd --syslog -c {service.directory}/config"
    assert calls[:2] == ["open_instance", f"set_param command {command}"]
    assert calls[-1] == "close_instance"
    assert {"set_param respawn 3600 5 0", "set_param stdout 1", "set_param stderr 1"} <= set(calls)


def test_after_a_sysupgrade_the_standby_ends_by_itself(service: Service) -> None:
    """procd runs the program once, without `respawn`; the service is known by its first instance."""
    (service.directory / "returning").touch()
    calls = service.run("start")[1]
    assert calls.count("close_instance") == 2
    first = calls.index("close_instance")
    assert calls[first + 1 :] == [
        "open_instance returns",
        f"set_param command {service.directory}/tandem upgrade --return",
        "set_param stdout 1",
        "set_param stderr 1",
        "close_instance",
    ]


def test_what_is_off_is_not_started(service: Service) -> None:
    """Nor is it started again and again, and DHCP goes on without it. Who asked learns what is missing."""
    service.configure(GOOD.replace("1", "0"))
    status, calls, console = service.run("start")
    assert (status, calls) == (0, ["dhcp stop"])
    assert console.count("\n") == 1
    assert "not set up" in console and "Run: tandem init" in console


def test_a_start_says_that_the_next_boot_will_not(service: Service) -> None:
    status, calls, console = service.run("start", disabled=True)
    assert status == 0 and calls[0] == "open_instance"
    assert console == "tandem is disabled: it will not start at boot. Run: /etc/init.d/tandem enable\n"


@pytest.mark.parametrize("action", ["start", "reload"])
def test_a_bad_configuration_is_refused_with_its_reasons(service: Service, action: str) -> None:
    service.configure(GOOD + "\toption nonsense '1'\nconfig vrrp_instance 'I1'\n\toption priority '999'\n")
    status, calls, console = service.run(action, running=action == "reload")
    assert status == (1 if action == "reload" else 0)
    assert "nonsense" in console and "999" in console
    # Every reason is in the log, and nothing else happened.
    assert calls == [f"log: {line}" for line in console.splitlines()]


@pytest.mark.parametrize(
    "program",
    [
        "#!/nonexistent/python3\n",
        f"#!{sys.executable}\nimport nonexistent_module\n",
        f"#!{sys.executable}\n(\n",
        "#!/bin/sh\nkill -SEGV $$\n",
    ],
    ids=["no Python", "a module is missing", "a syntax error", "a crash"],
)
def test_a_broken_python_starts_nothing_and_the_boot_goes_on(service: Service, program: str) -> None:
    """procd is not asked to start it again and again, and the reason is in the log."""
    service.write("tandemd", program)
    status, calls, console = service.run("start")
    assert status == 0 and not [call for call in calls if not call.startswith("log: ")]
    assert "is python3 whole?" in console and "is python3 whole?" in calls[-1]
    assert service.run("reload", running=True)[0] == 1, "and what runs goes on"


def test_users_that_do_not_exist_are_told_before_a_start(service: Service) -> None:
    """The planner would find them, and the daemon end and be started again for ever."""
    service.configure(GOOD + "\toption script_user 'nobody nosuchgroup'\n")
    status, calls, console = service.run("start")
    assert (status, calls) == (0, [f"log: {line}" for line in console.splitlines()])
    assert "script_user" in console and "nosuchgroup" in console


def test_a_start_with_a_bad_configuration_ends_nothing(service: Service) -> None:
    service.configure("config nonsense\n")
    _, calls, console = service.run("start", running=True)
    assert "nonsense" in console
    assert "open_instance" in calls


def test_reload(service: Service) -> None:
    assert service.run("reload", running=True) == (0, ["tandem reload"], "")
    assert service.run("reload")[1][0] == "open_instance"
    service.configure(GOOD.replace("1", "0"))
    # A service without an instance: procd ends the running one, and keeps the triggers.
    status, calls, _ = service.run("reload", running=True)
    assert (status, calls) == (0, ["dhcp stop", "dhcp stop"])


def test_a_reload_that_the_daemon_refuses_has_failed(service: Service) -> None:
    service.write("tandem", "#!/bin/sh\necho why >&2\nexit 2\n")
    status, _, console = service.run("reload", running=True)
    assert (status, console) == (2, "why\n")


def test_a_stop_clears_what_a_killed_daemon_has_left(service: Service) -> None:
    """Its socket is still there; one that has ended removes it."""
    service.write("tandemd", "import sys\nprint('tandemd', *sys.argv[1:])\n")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(service.directory / "socket"))
    cleared = f"tandemd --clear --syslog -c {service.directory}/config"
    assert service.run("stop") == (0, ["kill tandem", cleared], "")


def test_triggers(service: Service) -> None:
    assert service.run("triggers") == (0, ["add_reload_trigger tandem network"], "")


def test_stop_waits_until_the_daemon_has_gone(service: Service) -> None:
    lock = service.directory / "lock"
    holder = subprocess.Popen(
        ["flock", str(lock), "sh", "-c", f"touch {lock}.held; read _"], stdin=subprocess.PIPE
    )
    assert holder.stdin is not None
    try:
        wait_until(lambda: Path(f"{lock}.held").exists(), 10, "the lock is held")
        stop = subprocess.Popen(
            ["/bin/sh", "-c", STAND_IN, "sh", str(SCRIPT), str(service.directory), "stop"],
            stdout=subprocess.DEVNULL,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            stop.wait(1.5)
        holder.stdin.close()
        assert stop.wait(10) == 0
    finally:
        holder.kill()
        holder.wait()
    assert service.run("stop") == (0, ["kill tandem"], "")
