# SPDX-License-Identifier: GPL-2.0-or-later
"""The prober: a real process, real servers on the loopback interface, and what the daemon hears of them."""

from __future__ import annotations

import marshal
import os
import select
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tandem.config.schema import Check
from tandem.core.timers import SECOND
from tandem.health import prober_link
from tandem.health.http import Request
from tandem.health.prober_link import Known, ProberLink
from tandem.health.question import Answer
from tests.lab.certificate import self_signed
from tests.unit.children import Bench, gone

HOST = "127.0.0.1"


class Pages(BaseHTTPRequestHandler):
    """Answers with the status that the path names; "/slow" not within the time of a test."""

    def do_GET(self) -> None:
        if self.path == "/slow":
            return
        self.send_response(int(self.path[1:] or 200))
        self.end_headers()
        self.wfile.write(f"this is {self.headers['Host']}".encode())

    def log_message(self, *_args: object) -> None:
        pass


class Checked:
    """A prober, and what it has told."""

    def __init__(self, bench: Bench, argv: Callable[[int], list[str]] | None = None) -> None:
        self.bench = bench
        self.told: list[tuple[tuple[str, ...], bool, str]] = []
        self.link = ProberLink(bench.loop, bench.log, lambda *said: self.told.append(said), argv)

    def want(self, **checks: Check) -> None:
        self.link.want({("", name): (check, None) for name, check in checks.items()})

    def known(self, name: str) -> Known:
        return self.link.known["", name]

    def result(self, check: Check) -> tuple[bool | None, str]:
        """Make one check, alone, and return its first result."""
        self.told.clear()
        self.want()
        self.want(one=check)
        self.bench.run_until(lambda: self.told)
        [(key, up, text)] = self.told
        assert key == ("", "one")
        return up, text


@pytest.fixture
def checked(bench: Bench) -> Iterator[Checked]:
    checked = Checked(bench)
    yield checked
    checked.link.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Start a web server, and return its port."""
    servers: list[HTTPServer] = []

    def start(tls: bool = False, days: int = 10, names: list[str | None] | None = None) -> int:
        server = HTTPServer((HOST, 0), Pages)
        if tls:
            server.socket = context(tmp_path, days, [] if names is None else names).wrap_socket(
                server.socket, server_side=True
            )
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return server.server_address[1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def context(path: Path, days: int, names: list[str | None]) -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(*self_signed(path, days))
    found.sni_callback = lambda _socket, name, _context: names.append(name)
    return found


def check(kind: str, **settings: Any) -> Check:
    return Check("one", kind, **{"interval_ms": 200, "timeout_ms": 3000} | settings)


def test_tcp(checked: Checked, serve: Callable[..., int]) -> None:
    assert checked.result(check("tcp", host=HOST, port=serve())) == (True, "connects")
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        port = closed.getsockname()[1]
        assert checked.result(check("tcp", host=HOST, port=port)) == (False, "Connection refused")
    assert checked.result(check("tcp", host=HOST, port=port, source="192.0.2.99"))[1].startswith(
        "Cannot assign"
    )
    assert checked.result(check("tcp", host=HOST, port=port, interface="gone0")) == (False, "No such device")


def test_http(checked: Checked, serve: Callable[..., int]) -> None:
    port = serve()

    def result(**settings: Any) -> tuple[bool | None, str]:
        return checked.result(check("http", host=HOST, port=port, **settings))

    assert result() == (True, "status 200")
    assert result(path="/503") == (False, "status 503")
    assert result(virtualhost="web.example.org", text="this is web") == (True, "status 200 with the text")
    assert result(text="something else") == (False, "the text is missing (status 200)")
    assert result(path="/slow", timeout_ms=100) == (False, "closes without an answer")


def test_a_server_that_says_nothing(checked: Checked) -> None:
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        for kind in ("http", "https"):
            assert checked.result(check(kind, host=HOST, port=port, timeout_ms=200)) == (False, "no answer")
        assert checked.known("one").figures[2] == 1, "it has timed out"


def test_a_server_that_closes_before_tls_is_set_up(checked: Checked) -> None:
    with socket.create_server((HOST, 0)) as server:

        def close_all() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)

        thread = threading.Thread(target=close_all, daemon=True)
        thread.start()
        found = checked.result(check("https", host=HOST, port=server.getsockname()[1]))
        assert found == (False, "closes the connection before TLS is set up")
        checked.want()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_https(checked: Checked, serve: Callable[..., int]) -> None:
    names: list[str | None] = []  # that the server was asked for
    port = serve(tls=True, names=names)

    def result(**settings: Any) -> tuple[bool | None, str]:
        return checked.result(check("https", host=HOST, port=port, **settings))

    assert result(virtualhost="web.example.org", text="this is web") == (True, "status 200 with the text")
    assert names == ["web.example.org"]
    # This server ends TCP without an end of TLS.
    assert result(text="something else") == (False, "the text is missing (status 200)")
    assert result(certificate_days=9) == (True, "status 200")
    assert result(certificate_days=11) == (False, "the certificate expires in 9 days")
    assert checked.result(check("https", host=HOST, port=serve())) == (False, "TLS: wrong version number")


def test_things_of_this_router(checked: Checked, tmp_path: Path) -> None:
    assert checked.result(check("ping", host=HOST, count=3)) == (True, "answers")
    assert checked.result(check("ping", host="::1")) == (True, "answers")
    assert checked.result(check("process", process=sys.executable)) == (True, "runs")
    assert checked.result(check("process", process="no such process")) == (False, "no process")
    file = tmp_path / "file"
    assert checked.result(check("file", file=str(file))) == (False, "No such file or directory")
    file.write_text("all is good")
    assert checked.result(check("file", file=str(file))) == (True, "is there")
    assert checked.result(check("file", file=str(file), text="bad")) == (False, "the text is missing")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert checked.result(check("file", file=str(fifo), text="bad"))[0] is False
    assert checked.result(check("script", script=("/bin/sh", "-c", "exit 3"))) == (False, "exit status 3")
    assert checked.result(check("script", script=("/bin/true",))) == (True, "exit status 0")
    assert checked.result(check("script", script=("/bin/true",), user="no-such-user"))[0] is False


def test_it_falls_after_so_many_tries_and_rises_again(checked: Checked, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    checked.want(
        one=check("file", file=str(file), interval_ms=60_000, fall=4, rise=2, delay_before_retry_ms=10)
    )
    checked.bench.run_until(lambda: checked.told)
    file.unlink()
    # The interval is a minute: only an anew wanted check is tried now, and retries follow in 10 ms.
    checked.want(
        one=check("file", file=str(file), interval_ms=59_000, fall=4, rise=2, delay_before_retry_ms=10)
    )
    checked.bench.run_until(lambda: len(checked.told) == 2)
    assert [(up, text) for _, up, text in checked.told] == [
        (True, "is there"),
        (False, "No such file or directory"),
    ]
    checked.bench.run_until(lambda: checked.known("one").figures[1] == 4)


def test_the_log_names_the_check_and_whose_it_is(checked: Checked, tmp_path: Path) -> None:
    """A check of one network or server is told apart from the check that it shares a name with."""
    file = check("file", file=str(tmp_path))
    checked.link.want({("", "one"): (file, None), ("wan", "one"): (file, None)})
    checked.bench.run_until(lambda: len(checked.told) == 2)
    said = [line.partition(" ")[2] for line in checked.bench.sink.lines if "check one" in line]
    assert sorted(line.partition(":")[0] for line in said) == ["check one", "check one of wan"]


def test_a_check_that_is_wanted_no_more_is_not_made(checked: Checked, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    stays = check("file", file="/", interval_ms=20)
    checked.want(stays=stays, goes=check("script", script=("/bin/touch", str(ran)), interval_ms=20))
    checked.bench.run_until(lambda: len(checked.told) == 2)
    checked.want(stays=stays)

    def tries() -> None:
        """Let the other check be made some more times."""
        until = checked.known("stays").figures[0] + 10
        checked.bench.run_until(lambda: checked.known("stays").figures[0] >= until)

    tries()
    ran.unlink()
    tries()
    assert not ran.exists()
    assert len(checked.told) == 2, "a state that stays is told once"


def test_a_socket_that_is_full_is_waited_for_once(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes on waiting for a socket that has room is called in every turn of the loop."""
    process = checked.link.process
    send, wait = process.send, process.when_writable
    waits: list[bool] = []
    full = [True]

    def sends(message: bytes) -> None:
        if full:
            full.pop()
            raise BlockingIOError
        send(message)

    def waiting(call: Callable[[], None] | None) -> None:
        waits.append(call is not None)
        wait(call)

    monkeypatch.setattr(process, "send", sends)
    monkeypatch.setattr(process, "when_writable", waiting)
    checked.want(one=check("file", file="/"))
    checked.bench.run_until(lambda: checked.told)
    assert waits[0] and waits.count(True) == 1 and not waits[-1]


def test_a_new_prober_gets_nothing_that_waited_for_the_old_one(
    checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = checked.link.process
    send = process.send
    full = True
    sent: list[str] = []

    def sends(message: bytes) -> None:
        if full:
            raise BlockingIOError
        sent.append(marshal.loads(message)[0])
        send(message)

    monkeypatch.setattr(process, "send", sends)
    checked.want(one=check("file", file="/"))
    os.kill(process.pid, signal.SIGKILL)
    checked.bench.run_until(lambda: process.starts == 2)
    full = False
    checked.bench.run_until(lambda: checked.known("one").figures[0])
    assert sent == ["want"]


def test_what_the_checks_say_is_read_before_what_others_say(bench: Bench) -> None:
    checked = Checked(bench, lambda fd: ["/bin/bash", "-c", f"printf x >&{fd}; exec sleep 60"])
    read: list[str] = []
    near, far = socket.socketpair()
    with near, far:
        bench.loop.add_reader(near.fileno(), lambda: read.append(near.recv(9).decode()))
        far.send(b"other")
        checked.want(one=check("file", file="/"))
        process = checked.link.process
        process._heard = lambda message: read.append(message.decode())
        assert process._socket is not None and select.select([process._socket], (), (), 20)[0]
        bench.loop.turn()
        assert read == ["x", "other"]
        bench.loop.remove_reader(near.fileno())
    checked.link.close()


def test_a_request_that_is_over_leaves_no_connection(bench: Bench) -> None:
    answers: list[Answer] = []
    with socket.create_server((HOST, 0)) as silent:
        asked = Request(check("http", host=HOST, port=silent.getsockname()[1]), bench.loop, SECOND // 10)
        asked.start(answers.append)
        bench.run_until(lambda: answers)
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(20)
            while connection.recv(1 << 16):  # its end comes
                pass
    assert str(answers[0]) == "no answer"


def test_a_prober_that_ends_or_hangs_changes_no_state(
    checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober_link, "SILENCE", 2 * SECOND)
    file = tmp_path / "file"
    file.touch()
    checked.want(one=check("file", file=str(file)))
    checked.bench.run_until(lambda: checked.told)
    first = checked.link.process.pid
    os.kill(first, signal.SIGKILL)
    checked.bench.run_until(lambda: checked.link.process.starts == 2 and not checked.link.trouble)
    assert checked.known("one").up is True and len(checked.told) == 1
    assert any("the prober has ended" in line for line in checked.bench.sink.lines)
    second = checked.link.process.pid
    os.kill(second, signal.SIGSTOP)
    checked.bench.run_until(lambda: checked.link.process.starts == 3 and not checked.link.trouble, 30)
    assert any("the prober hangs" in line for line in checked.bench.sink.lines)
    file.unlink()
    checked.bench.run_until(lambda: len(checked.told) == 2)
    assert checked.told[1][1] is False
    third = checked.link.process.pid
    checked.want()
    checked.bench.run_until(lambda: all(map(gone, (first, second, third))))


@pytest.mark.parametrize("patient", [True, False])
def test_a_prober_may_take_longer_to_start_than_between_two_messages(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    monkeypatch.setattr(prober_link, "SILENCE", SECOND // 50)
    monkeypatch.setattr(prober_link, "START_LIMIT", 3600 * SECOND if patient else 0)
    checked = Checked(bench, lambda _fd: ["/bin/sleep", "60"])
    over: list[int] = []
    bench.loop.call_at("test", bench.loop.now() + SECOND // 5, over.append)
    checked.want(one=check("ping", host="192.0.2.1"))
    bench.run_until(lambda: over)
    assert bool(checked.link.trouble) is not patient
    assert any("the prober hangs" in line for line in bench.sink.lines) is not patient
    checked.link.close()


def test_without_a_prober_an_election_does_not_wait(bench: Bench) -> None:
    checked = Checked(bench, lambda _fd: ["/bin/false"])
    checked.want(one=check("ping", host="192.0.2.1"))
    bench.run_until(lambda: checked.told)
    assert checked.told == [(("", "one"), True, "nothing checks it")]
    assert checked.link.trouble == "the prober has ended"
    checked.link.close()


def test_the_prober_ends_with_the_daemon(bench: Bench) -> None:
    checked = Checked(bench)
    checked.want(one=check("script", script=("/bin/sleep", "60"), timeout_ms=60_000))
    bench.run_until(lambda: checked.link._until and not checked.link._queue)
    pid, sock = checked.link.process.pid, checked.link.process._socket
    assert sock is not None
    bench.loop.remove_reader(sock.fileno())
    sock.close()
    checked.link.process._socket = None
    bench.run_until(lambda: gone(pid))
