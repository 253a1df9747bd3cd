# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket against well-behaved and hostile clients, on the daemon's own loop."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tandem.control import server as module
from tandem.control.server import MAX_CLIENTS, MAX_REQUEST, ControlServer, parse_request
from tandem.loop import Loop

DEADLINE_S = 10.0
SECOND = 1_000_000_000
BIG = "x" * 4_000_000  # more than a socket buffer holds

Reply = Callable[[dict[str, Any]], None]


class ShiftedLoop(Loop):
    """The daemon's loop with a clock that tests can put forward."""

    def __init__(self) -> None:
        self.shift = 0
        super().__init__(clock=lambda: time.monotonic_ns() + self.shift)


class Daemon:
    """A server whose handler echoes, answers at length (status) or answers later (reload)."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.loop = ShiftedLoop()
        self.requests: list[dict[str, str]] = []
        self.later: list[Reply] = []
        self.log: list[str] = []
        self.big = False
        self.server = ControlServer(self.loop, self.path, self.handle, self.log.append)

    def handle(self, request: dict[str, str], reply: Reply) -> None:
        self.requests.append(request)
        if request["command"] == "reload":
            self.later.append(reply)
        else:
            reply({"ok": True, "result": BIG if self.big else request})

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "condition not reached"
            self.loop.turn(10_000_000)

    def idle(self) -> None:
        """Run until nothing is left to do at once."""
        for _ in range(20):
            self.loop.turn(0)

    def connect(self) -> Client:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect(self.path)
        self.idle()
        return Client(self, sock)


class Client:
    def __init__(self, daemon: Daemon, sock: socket.socket) -> None:
        self.daemon = daemon
        self.sock = sock
        self.data = b""
        self.closed = False

    def send(self, data: bytes) -> Client:
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                self.daemon.idle()
            except (BrokenPipeError, ConnectionResetError):
                break
        self.daemon.idle()
        return self

    def poll(self) -> bool:
        try:
            chunk = self.sock.recv(1 << 20)
        except BlockingIOError:
            return self.closed
        except ConnectionResetError:
            chunk = b""
        self.data += chunk
        self.closed = not chunk
        return self.closed

    def answers(self, count: int = 1) -> list[dict[str, Any]]:
        self.daemon.until(lambda: self.poll() or self.data.count(b"\n") >= count)
        *lines, self.data = self.data.split(b"\n", count)
        return [json.loads(line) for line in lines]

    def gone(self) -> bool:
        """Whether the server hangs up (anything that it still says is read)."""
        self.daemon.until(self.poll)
        return True

    def close(self) -> None:
        self.sock.close()
        self.daemon.idle()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "run" / "control.sock")
    yield daemon
    daemon.server.close()
    daemon.loop.close()


def assert_serves(daemon: Daemon) -> None:
    client = daemon.connect()
    assert client.send(b'{"command": "version"}\n').answers() == [
        {"ok": True, "result": {"command": "version"}}
    ]
    client.close()


# Well-behaved clients


def test_several_requests_on_one_connection(daemon: Daemon) -> None:
    client = daemon.connect()
    for group in ("G1", "Gruppe Süd"):
        request = {"command": "failover", "group": group}
        assert client.send(json.dumps(request).encode() + b"\n").answers() == [
            {"ok": True, "result": request}
        ]


def test_pipelined_requests_are_answered_in_order(daemon: Daemon) -> None:
    groups = [f"G{number}" for number in range(500)]
    lines = b"".join(json.dumps({"command": "resume", "group": group}).encode() + b"\n" for group in groups)
    answers = daemon.connect().send(lines).answers(len(groups))
    assert [answer["result"]["group"] for answer in answers] == groups


def test_request_in_pieces(daemon: Daemon) -> None:
    client = daemon.connect()
    for byte in b'{"command":"version"}\n':
        assert not daemon.requests
        client.send(bytes([byte]))
    assert client.answers()[0]["ok"]


def test_answer_may_come_later_and_others_are_served_meanwhile(daemon: Daemon) -> None:
    waiting = daemon.connect().send(b'{"command": "reload"}\n{"command": "version"}\n')
    assert_serves(daemon)
    assert [request["command"] for request in daemon.requests] == ["reload", "version"]
    daemon.later[0]({"ok": True, "result": "done"})
    assert [answer["result"] for answer in waiting.answers(2)] == ["done", {"command": "version"}]


def test_half_closed_client_gets_its_answer(daemon: Daemon) -> None:
    client = daemon.connect().send(b'{"command": "version"}\n')
    client.sock.shutdown(socket.SHUT_WR)
    assert client.answers()[0]["ok"]
    assert client.gone()


def test_second_reply_is_ignored(daemon: Daemon) -> None:
    client = daemon.connect().send(b'{"command": "reload"}\n')
    daemon.later[0]({"ok": True, "result": 1})
    daemon.later[0]({"ok": True, "result": 2})
    assert client.answers() == [{"ok": True, "result": 1}]
    client.send(b'{"command": "reload"}\n')
    daemon.later[0]({"ok": True, "result": 3})  # of the first request, while the second one waits
    daemon.later[1]({"ok": True, "result": 4})
    assert client.answers() == [{"ok": True, "result": 4}]


def test_what_json_lacks_becomes_text(daemon: Daemon) -> None:
    client = daemon.connect().send(b'{"command": "reload"}\n')
    daemon.later[0]({"ok": True, "result": b"\xff\n"})
    assert client.answers() == [{"ok": True, "result": "b'\\xff\\n'"}]


# Requests that are refused

WHICH = (
    'a request is an object with a "command" of status, history, failover, standby, resume, reload, '
    "conntrack, conntrack_list, examine, services, checks, service, upgrade_peer, version"
)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"", "a request is one line of JSON"),
        (b"status", "a request is one line of JSON"),
        (b"\x00\xff\xfe\x80", "a request is one line of JSON"),
        (b"[" * (MAX_REQUEST - 1), "a request is one line of JSON"),
        (b"[]", WHICH),
        (b"{}", WHICH),
        (b'{"command": ["status"]}', WHICH),
        (b'{"command": "explode"}', WHICH),
        (b'{"command": "status", "group": "G1"}', "status does not take the argument 'group'"),
        (b'{"command": "conntrack", "peer": "r2"}', "conntrack does not take the argument 'peer'"),
        (b'{"command": "conntrack_list", "cursor": 1}', "the argument cursor is not plain text"),
        (b'{"command": "standby", "gr\\u00fcn": 1}', "standby does not take the argument 'gr\\xfcn'"),
        (b'{"command": "standby", "group": 1}', "the argument group is not plain text"),
        (b'{"command": "standby", "group": "a\\nb"}', "the argument group is not plain text"),
        (b'{"command": "standby", "group": "\\ud800"}', "the argument group is not plain text"),
    ],
)
def test_bad_requests_are_explained(daemon: Daemon, line: bytes, sentence: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_request(line)
    assert str(raised.value) == sentence
    client = daemon.connect().send(line + b"\n")
    assert client.answers() == [{"ok": False, "error": sentence}]
    assert client.send(b'{"command": "version"}\n').answers()[0]["ok"]
    assert [request["command"] for request in daemon.requests] == ["version"]


# Hostile clients


def test_longest_line_passes_and_a_longer_one_ends_the_connection(daemon: Daemon) -> None:
    padding = b" " * (MAX_REQUEST - len(b'{"command":"version"}\n'))
    assert daemon.connect().send(b'{"command":"version"}' + padding + b"\n").answers()[0]["ok"]
    client = daemon.connect().send(b'{"command":"version"}' + padding + b" \n")
    assert client.answers() == [{"ok": False, "error": "a request has at most 4096 bytes"}]
    assert client.gone()
    assert_serves(daemon)


def test_flood_without_a_newline(daemon: Daemon) -> None:
    client = daemon.connect().send(b"x" * 1_000_000)
    assert client.gone()
    assert not daemon.requests
    assert_serves(daemon)


def test_binary_garbage(daemon: Daemon) -> None:
    client = daemon.connect()
    garbage = bytes(range(256)) * 8
    client.send(garbage)
    assert client.answers()[0]["ok"] is False
    client.close()
    assert_serves(daemon)


@pytest.mark.parametrize("data", [b"", b'{"command": "ver', b'{"command": "version"}\n', b"\n" * 100])
def test_disconnect_at_any_moment(daemon: Daemon, data: bytes) -> None:
    client = daemon.connect()
    client.send(data).close()
    assert_serves(daemon)


def test_disconnect_while_the_handler_works(daemon: Daemon) -> None:
    client = daemon.connect().send(b'{"command": "reload"}\n')
    client.close()
    daemon.later[0]({"ok": True, "result": None})
    assert_serves(daemon)


def test_client_that_never_reads_is_dropped_after_a_deadline(daemon: Daemon) -> None:
    daemon.big = True
    client = daemon.connect().send(b'{"command": "version"}\n' * 100)
    assert len(daemon.requests) == 1  # the others wait until the first answer is taken
    daemon.loop.shift += 6 * SECOND
    daemon.until(lambda: daemon.log)
    assert daemon.log == ["control socket: a client did not take its response"]
    assert daemon.server.counters == {"control_slow": 1}
    assert client.gone()
    assert len(client.data) < len(BIG)
    daemon.big = False
    assert_serves(daemon)


def test_long_answer_arrives_whole(daemon: Daemon) -> None:
    daemon.big = True
    assert daemon.connect().send(b'{"command": "version"}\n').answers() == [{"ok": True, "result": BIG}]


def test_trickling_does_not_extend_the_deadline(daemon: Daemon) -> None:
    client = daemon.connect()
    for _ in range(6):
        client.send(b"x")
        daemon.loop.shift += 2 * SECOND
        daemon.idle()
    assert client.gone()
    assert not daemon.log


def test_handler_that_never_answers(daemon: Daemon) -> None:
    client = daemon.connect().send(b'{"command": "reload"}\n')
    daemon.loop.shift += 59 * SECOND
    daemon.idle()
    assert not client.poll() and not client.data
    daemon.loop.shift += 2 * SECOND
    assert client.answers() == [{"ok": False, "error": "tandemd did not finish this in time"}]
    daemon.later[0]({"ok": True, "result": "too late"})
    assert client.send(b'{"command": "version"}\n').answers() == [
        {"ok": True, "result": {"command": "version"}}
    ]


def test_fifty_connections(daemon: Daemon) -> None:
    clients = [daemon.connect() for _ in range(50)]
    served, refused = clients[:MAX_CLIENTS], clients[MAX_CLIENTS:]
    for client in refused:
        assert client.answers() == [{"ok": False, "error": "tandemd already serves 8 clients, try again"}]
        assert client.gone()
    for client in served:
        assert client.send(b'{"command": "version"}\n').answers()[0]["ok"]
    assert daemon.log == ["control socket: more than 8 clients at once"]
    assert daemon.server.counters == {"control_overflow": 42}
    served[0].close()
    assert_serves(daemon)


def test_idle_clients_give_their_places_back(daemon: Daemon) -> None:
    clients = [daemon.connect() for _ in range(MAX_CLIENTS)]
    daemon.loop.shift += 11 * SECOND
    assert all(client.gone() for client in clients)
    assert_serves(daemon)


def test_out_of_descriptors(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = daemon.server._listener

    class Exhausted:
        attempts = 0

        def fileno(self) -> int:
            return listener.fileno()

        def accept(self) -> object:
            self.attempts += 1
            raise OSError(errno.EMFILE, "Too many open files")

    exhausted = Exhausted()
    monkeypatch.setattr(daemon.server, "_listener", exhausted)
    client = daemon.connect()  # runs many turns of the loop
    assert exhausted.attempts == 1
    assert daemon.log == ["control socket: Too many open files"]
    monkeypatch.setattr(daemon.server, "_listener", listener)
    daemon.loop.shift += SECOND
    assert client.send(b'{"command": "version"}\n').answers()[0]["ok"]


def test_other_users_are_denied(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    # SO_PEERCRED names who called connect(): a child without privileges, past the modes of the files.
    if os.geteuid():
        pytest.skip("needs root to be another user")
    directory = os.open(os.path.dirname(daemon.path), os.O_PATH)
    os.chmod(daemon.path, 0o666)
    program = (
        f"import os,socket,sys;os.fchdir({directory});os.setgroups([]);os.setgid(65534)\n"
        "s=socket.socket(socket.AF_UNIX)\n"
        "os.setuid(65534)\n"
        "s.connect('control.sock')\n"
        "sys.stdout.write(s.recv(4096).decode())\n"
    )
    os.set_inheritable(directory, True)
    os.chmod(os.path.dirname(daemon.path), 0o755)
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, pass_fds=[directory], cwd="/"
    )
    daemon.until(lambda: child.poll() is not None)
    assert child.stdout is not None
    assert json.loads(child.stdout.read()) == {"ok": False, "error": "only root may control tandemd"}
    child.stdout.close()
    os.close(directory)
    assert daemon.log == ["control socket: user 65534 was denied"]


# The socket file


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_modes_and_umask(daemon: Daemon) -> None:
    assert mode(daemon.path) == 0o600
    assert mode(os.path.dirname(daemon.path)) == 0o700
    mask = os.umask(0o022)
    os.umask(mask)
    other = Daemon(Path(daemon.path).with_name("other.sock"))
    assert os.umask(mask) == mask
    other.server.close()
    other.loop.close()


def test_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    daemon = Daemon(tmp_path / "control.sock")
    assert mode(str(tmp_path)) == 0o755
    daemon.server.close()
    assert not os.path.exists(daemon.path)
    daemon.loop.close()


def test_living_daemon_is_not_replaced(daemon: Daemon) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="another tandemd is running") as raised:
            Daemon(Path(daemon.path))
        assert raised.value.errno == errno.EADDRINUSE
    assert_serves(daemon)


def test_stale_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    program = (
        f"import os,sys;sys.path.insert(0,{os.path.dirname(module.__file__)!r}+'/../..')\n"
        "from tandem.control.server import ControlServer\nfrom tandem.loop import Loop\n"
        f"ControlServer(Loop(), {str(path)!r}, print, print)\nos.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert stat.S_ISSOCK(path.stat().st_mode)
    daemon = Daemon(path)
    assert_serves(daemon)
    daemon.server.close()
    daemon.loop.close()


def test_other_files_are_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(OSError):
        Daemon(path)
    assert path.read_text() == "precious"
    with open(f"{path}.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the failed daemon has let it go


def test_close_drops_clients_and_forgets_the_timer(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "control.sock")
    client = daemon.connect().send(b'{"command": "reload"}\n')
    daemon.server.close()
    assert client.gone()
    daemon.later[0]({"ok": True, "result": None})
    assert not daemon.loop._timers and not daemon.loop._readers and not daemon.loop._writers
    daemon.loop.close()


# Cost


def test_idle_server_sets_no_timer(daemon: Daemon) -> None:
    client = daemon.connect()
    assert daemon.loop._timers
    client.close()
    daemon.loop.shift += SECOND
    daemon.until(lambda: not daemon.loop._timers)


def test_request_flood_does_not_grow_the_loops_heap(daemon: Daemon) -> None:
    daemon.connect().send(b'{"command": "version"}\n' * 2000).answers(2000)
    assert len(daemon.loop._heap) < 20


def test_imports_stay_lean() -> None:
    source = os.path.join(os.path.dirname(module.__file__), "..", "..")
    program = f"import sys;sys.path.insert(0,{source!r});import tandem.control.server;print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    banned = {"typing", "subprocess", "argparse", "asyncio", "logging", "ipaddress", "pyroute2", "scapy"}
    assert not banned & set(shown)
