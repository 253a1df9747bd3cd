# SPDX-License-Identifier: GPL-2.0-or-later
"""What checks make of an answer: of a web server, of a DNS server, and of a certificate."""

from __future__ import annotations

import calendar
import hashlib
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.config.schema import Check
from tandem.health import certificate, dns, http
from tests.lab.certificate import self_signed

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
ENDLESS = b"HTTP/1.1 200 OK\r\n" + b"a" * http.HEAD_MAX
MD5, SHA256 = hashlib.md5(b"hello").hexdigest(), hashlib.sha256(b"hello").hexdigest()


def web(**settings: Any) -> Check:
    return Check("web", "http", host="192.0.2.1", port=80, **settings)


@pytest.mark.parametrize(
    ("settings", "data", "ended", "ok", "text"),
    [
        ({}, PAGE, False, True, "status 200"),
        ({}, b"HTTP/1.0 204\r\n", False, True, "status 204"),
        ({}, b"HTTP/1.1 503 Busy\r\n", False, False, "status 503"),
        ({"status": ((301, 302), (404, 404))}, b"HTTP/1.1 404 N", False, True, "status 404"),
        ({"status": ((301, 302), (404, 404))}, PAGE, False, False, "status 200"),
        ({}, b"HTTP/1.", False, None, ""),
        ({}, b"HTTP/1.1 20", False, None, ""),
        ({}, b"HTTP/1.1 20", True, False, "does not speak HTTP"),
        ({}, b"SSH-2.0-OpenSSH\r\n", False, False, "does not speak HTTP"),
        ({}, b"", True, False, "closes without an answer"),
        ({"text": "ell"}, PAGE, False, True, "status 200 with the text"),
        ({"text": "bye"}, PAGE, False, False, "the text is missing (status 200)"),
        ({"text": "bye"}, PAGE[:-1], False, None, ""),
        ({"text": "bye"}, PAGE[:-1], True, False, "the text is missing (status 200)"),
        ({"digest": MD5}, PAGE, False, True, "status 200 with the digest"),
        ({"digest": SHA256}, PAGE, False, True, "status 200 with the digest"),
        ({"digest": MD5}, PAGE[:-1], True, False, "another digest (status 200)"),
        ({"digest": MD5, "text": "ell"}, PAGE, False, True, "status 200 with the digest"),
        ({"digest": MD5, "text": "bye"}, PAGE, False, False, "the text is missing (status 200)"),
        ({"text": "x"}, ENDLESS, False, False, "the head of its answer is too long"),
    ],
)  # fmt: skip
def test_a_web_server(settings: dict[str, Any], data: bytes, ended: bool, ok: bool | None, text: str) -> None:
    answer = http.judge(web(**settings), data, ended)
    assert (ok, text) == ((None, "") if answer is None else (answer.ok, str(answer)))


def test_the_request_of_a_web_server() -> None:
    assert http.request(web(path="/a?b", virtualhost="www.example.org")) == (
        b"GET /a?b HTTP/1.0\r\nHost: www.example.org\r\nUser-Agent: tandem\r\nConnection: close\r\n\r\n"
    )
    assert b"\r\nHost: [2001:db8::1]\r\n" in http.request(Check("w", "http", host="2001:db8::1"))


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_of_a_web_server(data: bytes, ended: bool) -> None:
    answer = http.judge(web(text="x"), data, ended)
    assert answer is not None or not ended


QUESTION = b"\3www\7example\3org\0\0\1\0\1"


def reply(records: bytes, count: int, flags: int = 0x8180, identifier: int = 7) -> bytes:
    head = b"".join(number.to_bytes(2, "big") for number in (identifier, flags, 1, count, 0, 0))
    return head + QUESTION + records


def record(kind: int, content: bytes) -> bytes:
    return (
        b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(content).to_bytes(2, "big") + content
    )


ALIAS = record(5, b"\3web\xc0\x10")  # web.example.org
ADDRESS = record(1, bytes((192, 0, 2, 1)))
ADDRESS6 = record(28, bytes.fromhex("20010db8" + "0" * 23 + "1"))
MAIL = record(15, b"\0\x0a\3web\xc0\x10")
LONG = record(16, b"\xff" + 255 * b"x")  # what follows is more than 255 bytes from the beginning
SERVER = record(2, b"\3far\7example\3net\0")
FAR = 12 + len(QUESTION) + len(LONG) + 12  # where that name is
MAIL_FAR = record(15, b"\0\x0a" + (0xC000 | FAR).to_bytes(2, "big"))
PLACE = record(33, b"\0\1\0\2\1\xbb\3web\xc0\x10")


@pytest.mark.parametrize(
    ("settings", "data", "ok", "text"),
    [
        ({}, reply(ADDRESS, 1), True, "answers"),
        ({"answer": "192.0.2.1"}, reply(ALIAS + ADDRESS, 2), True, "answers"),
        ({"answer": "192.0.2.2"}, reply(ADDRESS, 1), False, "another answer: 192.0.2.1"),
        ({}, reply(ALIAS, 1), False, "there is no A of www.example.org"),
        ({}, reply(b"", 0, 0x8183), False, "NXDOMAIN"),
        ({}, reply(b"", 0, 0x8185), False, "REFUSED"),
        ({}, reply(b"", 0, 0x818B), False, "response code 11"),
        ({}, reply(ADDRESS, 1, identifier=8), None, ""),
        ({}, reply(ADDRESS, 1, flags=0x0100), None, ""),
        ({"record": "CNAME", "answer": "WEB.example.org"}, reply(ALIAS, 1), True, "answers"),
        ({"record": "MX", "answer": "10 web.example.org"}, reply(MAIL, 1), True, "answers"),
        (
            {"record": "MX", "answer": "10 far.example.net"}, reply(LONG + SERVER + MAIL_FAR, 3),
            True, "answers",
        ),
        ({"record": "TXT", "answer": "a b"}, reply(record(16, b"\2a \1b"), 1), True, "answers"),
        ({"record": "AAAA", "answer": "2001:db8::1"}, reply(ADDRESS6, 1), True, "answers"),
        ({"record": "SRV", "answer": "1 2 443 web.example.org"}, reply(PLACE, 1), True, "answers"),
    ],
)  # fmt: skip
def test_a_dns_server(settings: dict[str, Any], data: bytes, ok: bool | None, text: str) -> None:
    check = Check("dns", "dns", query="www.example.org", **{"record": "A"} | settings)
    answer = dns.judge(check, data, 7)
    assert (ok, text) == ((None, "") if answer is None else (answer.ok, str(answer)))


def test_an_answer_of_dns_that_is_cut_off() -> None:
    """It is malformed, or not for this query yet; nothing else is raised, which would end the prober."""
    check = Check("dns", "dns", query="www.example.org", record="MX", answer="10 web.example.org")
    whole = reply(ALIAS + MAIL, 2)
    for size in range(len(whole)):
        try:
            answer = dns.judge(check, whole[:size], 7)
        except (ValueError, IndexError):
            continue
        assert answer is None or not answer.ok
    assert str(dns.judge(check, whole, 7)) == "answers"


def test_a_record_that_says_to_be_longer_than_the_answer_is_none() -> None:
    check = Check("dns", "dns", query="www.example.org", record="A", answer="")
    longer = ADDRESS[:-6] + (5).to_bytes(2, "big") + ADDRESS[-4:]
    assert str(dns.judge(check, reply(ADDRESS, 1), 7)) == "answers"
    assert str(dns.judge(check, reply(longer, 1), 7)) == "there is no A of www.example.org"


@pytest.mark.parametrize(("length", "fits"), [(63, True), (64, False)])
def test_a_label_has_63_bytes_at_most(length: int, fits: bool) -> None:
    """RFC 1035 section 2.3.4: what begins with the bits 01 is no length."""
    data = bytes((length,)) + b"a" * length + b"\0"
    with nullcontext() if fits else pytest.raises(ValueError):
        assert dns._name(data, 0) == ("a" * length, length + 2)


def test_of_many_other_answers_four_are_said() -> None:
    check = Check("dns", "dns", query="www.example.org", record="A", answer="198.51.100.1")
    many = b"".join(record(1, bytes((192, 0, 2, last))) for last in range(1, 7))
    said = "another answer: 192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4"
    assert str(dns.judge(check, reply(many, 6), 7)) == said


def test_a_query() -> None:
    assert dns.query(7, "www.example.org", "A") == b"\0\7\1\0\0\1\0\0\0\0\0\0" + QUESTION
    assert dns.query(7, ".", "SOA")[12:] == b"\0\0\6\0\1"


def test_the_kinds_of_records_have_the_numbers_of_the_rfcs() -> None:
    """RFC 1035 section 3.2.2; AAAA: RFC 3596, SRV: RFC 2782."""
    asked = {kind: int.from_bytes(dns.query(7, ".", kind)[-4:-2], "big") for kind in dns.RECORDS}
    assert asked == {
        "A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33,
    }  # fmt: skip


@given(st.binary(max_size=80), st.sampled_from(sorted(dns.RECORDS)))
def test_any_bytes_of_a_dns_server(data: bytes, kind: str) -> None:
    """Also with pointers that lead in a circle."""
    check = Check("dns", "dns", query="www.example.org", record=kind, answer="x")
    for packet in (data, reply(data, 3), reply(record(dns.RECORDS[kind], data), 1)):
        try:
            answer = dns.judge(check, packet, 7)
        except (ValueError, IndexError):
            continue  # what the caller calls malformed
        assert answer is None or str(answer).isprintable()


def test_a_certificate_expires(tmp_path: Path) -> None:
    for days in (30, 40_000):  # the second one is a GeneralizedTime
        cert, _ = self_signed(tmp_path, days)
        der = subprocess.run(
            ["openssl", "x509", "-in", cert, "-outform", "DER"], check=True, capture_output=True
        ).stdout
        expiry = certificate.expiry(der)
        assert 0 <= time.time() + days * 86_400 - expiry < 60
    said = subprocess.run(
        ["openssl", "x509", "-in", cert, "-noout", "-enddate"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert calendar.timegm(time.strptime(said, "notAfter=%b %d %H:%M:%S %Y GMT\n")) == expiry


def element(tag: int, content: bytes, size: int = 0) -> bytes:
    """An element in DER; `size`: bytes of its length, 0: the short form."""
    length = bytes((0x80 | size,)) + len(content).to_bytes(size, "big") if size else bytes((len(content),))
    return bytes((tag,)) + length + content


def der(kind: int, time_: bytes, versioned: bool = True, size: int = 0) -> bytes:
    """A certificate that is over at this time, RFC 5280 section 4.1, with nothing behind its validity."""
    fields = element(0xA0, element(2, b"\2")) if versioned else b""
    fields += element(2, b"\1") + element(0x30, b"ecdsa") + element(0x30, b"issuer")
    validity = element(0x30, element(0x17, b"240101000000Z") + element(kind, time_, size), size)
    return element(0x30, element(0x30, fields + validity, size), size)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("size", range(5))
@pytest.mark.parametrize(
    ("kind", "text", "moment"),
    [
        (0x17, b"491231235958Z", "2049-12-31 23:59:58"),
        (0x17, b"500102030405Z", "1950-01-02 03:04:05"),
        (0x18, b"20501231235958Z", "2050-12-31 23:59:58"),
    ],
)
def test_when_a_certificate_is_over(kind: int, text: bytes, moment: str, size: int, versioned: bool) -> None:
    expected = calendar.timegm(time.strptime(moment, "%Y-%m-%d %H:%M:%S"))
    assert certificate.expiry(der(kind, text, versioned, size)) == expected


@pytest.mark.parametrize(
    "data",
    [
        der(0x16, b"491231235958Z"),
        der(0x17, b"4912312359Z"),
        der(0x17, b"49123123595xZ"),
        der(0x18, b"491231235958Z"),
        der(0x17, b"491231235958Z", size=5),  # a length has four bytes at most
        der(0x17, b"491231235958Z", size=6),
        der(0x17, b"491231235958Z").replace(b"\x30\x1e\x17", b"\x31\x1e\x17"),  # validity is no sequence
    ],
)
def test_a_certificate_of_another_shape(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        certificate.expiry(data)


@pytest.mark.parametrize("size", [0, 1, 4, 5, 0x7F])
def test_a_certificate_that_is_cut_or_says_more_than_it_has(size: int) -> None:
    whole = der(0x17, b"491231235958Z", size=size % 5)
    for end in range(len(whole)):
        with pytest.raises(ValueError, match=r"^$"):
            certificate.expiry(whole[:end])
    with pytest.raises(ValueError, match=r"^$"):
        certificate.expiry(bytes((0x30, 0x80 | size)) + bytes(200))


@given(st.binary(max_size=100))
def test_any_bytes_of_a_certificate(data: bytes) -> None:
    try:
        certificate.expiry(data)
    except ValueError:
        pass
