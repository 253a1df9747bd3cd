# SPDX-License-Identifier: GPL-2.0-or-later
"""ADB, the file format of apk-tools 3: packages and indexes, written and read (apk-v3(5), src/adb.h).

A file is a header and blocks. The ADB block holds a tree of values, the SIG blocks sign it, and each DATA
block holds the content of one file, whose hash stands in the tree. The whole is one raw deflate stream
behind "ADBd". All numbers are little-endian.

A value is a 32-bit word: 4 bits say its type, 28 bits are the value itself or where it lies in the block. An
object is a row of words, the first of which counts the row; the slots of each kind of object are the
enumerations of src/apk_adb.h. A value that is there already is not written again.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

MAGIC = b"ADB."
DEFLATED = b"ADBd"
PACKAGE = int.from_bytes(b"pckg", "little")
INDEX = int.from_bytes(b"indx", "little")

BLOCK_ADB, BLOCK_SIG, BLOCK_DATA, BLOCK_EXT = range(4)
ALIGNMENT = 8

INT, INT_32, INT_64 = 0x1, 0x2, 0x3
BLOB_8, BLOB_16, BLOB_32 = 0x8, 0x9, 0xA
ARRAY, OBJECT = 0xD, 0xE
NULL = 0
_BLOBS = {BLOB_8: "<B", BLOB_16: "<H", BLOB_32: "<I"}
_INTS = {INT_32: "<I", INT_64: "<Q"}
_VALUE_MASK = 0x0FFFFFFF

SHA512 = 4  # enum of src/apk_crypto.h
_SIGNATURE = struct.Struct("<BB16s")  # version, hash, id of the key

Value = int


class AdbError(ValueError):
    """The bytes are no ADB file of the kind that was asked for."""


class Writer:
    """Builds the tree of one ADB block, with its values where adb_w_data() of apk-tools puts them."""

    def __init__(self) -> None:
        self._data = bytearray(8)  # version, compatible version, and the root
        self._known: dict[bytes, int] = {}  # where content lies that was written before

    def integer(self, number: int) -> Value:
        """A number from 0 to 2**64 - 1."""
        if number <= _VALUE_MASK:
            return INT << 28 | number
        kind = INT_32 if number < 1 << 32 else INT_64
        return kind << 28 | self._put(struct.pack(_INTS[kind], number), 4)

    def blob(self, content: bytes | str, *, alone: bool = False) -> Value:
        """Bytes, or text in UTF-8; empty ones are NULL. `alone`: no other value shares the bytes."""
        raw = content.encode() if isinstance(content, str) else content
        if not raw:
            return NULL
        kind = BLOB_8 if len(raw) <= 0xFF else BLOB_16 if len(raw) <= 0xFFFF else BLOB_32
        prefixed = struct.pack(_BLOBS[kind], len(raw)) + raw
        alignment = struct.calcsize(_BLOBS[kind])
        return kind << 28 | (self._append(prefixed, alignment) if alone else self._put(prefixed, alignment))

    def object(self, slots: Sequence[Value]) -> Value:
        """An object or a list with the values of its slots from number 1 on; one without any is NULL."""
        used = len(slots)
        while used and slots[used - 1] == NULL:
            used -= 1
        if not used:
            return NULL
        return OBJECT << 28 | self._put(struct.pack(f"<{used + 1}I", used + 1, *slots[:used]), 4)

    def finish(self, root: Value) -> bytearray:
        """The content of the block, with `root` as its root."""
        struct.pack_into("<I", self._data, 4, root)
        return self._data

    def _put(self, content: bytes, alignment: int) -> int:
        at = self._known.get(content)
        if at is None or at % alignment:
            at = self._known[content] = self._append(content, alignment)
        return at

    def _append(self, content: bytes, alignment: int) -> int:
        self._data += bytes(-len(self._data) % alignment)
        at = len(self._data)
        self._data += content
        if len(self._data) > _VALUE_MASK:
            raise AdbError("the tree of the package has more than 256 MiB")
        return at


class Reader:
    """Looks values up in the content of an ADB block. AdbError: they reach out of it."""

    def __init__(self, data: bytes) -> None:
        if len(data) < 8 or data[0] != 0:
            raise AdbError("an ADB block of another version")
        self._data = data
        self.root: Value = struct.unpack_from("<I", data, 4)[0]

    def integer(self, value: Value) -> int:
        """The number that a value stands for; 0 for NULL."""
        if value >> 28 == INT:
            return value & _VALUE_MASK
        return 0 if value == NULL else self._number(_INTS, value)

    def where(self, value: Value) -> tuple[int, int]:
        """Offset and length of a blob in the block; 0, 0 for NULL."""
        if value == NULL:
            return 0, 0
        at = (value & _VALUE_MASK) + struct.calcsize(_BLOBS.get(value >> 28, ""))
        length = self._number(_BLOBS, value)
        if at + length > len(self._data):
            raise AdbError("a blob ends outside of its block")
        return at, length

    def blob(self, value: Value) -> bytes:
        """The bytes of a blob; none for NULL."""
        at, length = self.where(value)
        return bytes(self._data[at : at + length])

    def object(self, value: Value) -> tuple[Value, ...]:
        """The slots of an object or of a list from number 1 on; none for NULL."""
        if value == NULL:
            return ()
        if value >> 28 not in (ARRAY, OBJECT):
            raise AdbError("no object where one must be")
        at = value & _VALUE_MASK
        try:
            (count,) = struct.unpack_from("<I", self._data, at)
            if not count or at + 4 * count > len(self._data):
                raise AdbError("an object ends outside of its block")
            return struct.unpack_from(f"<{count - 1}I", self._data, at + 4)
        except struct.error:
            raise AdbError("an object lies outside of its block") from None

    def slot(self, value: Value, number: int) -> Value:
        """Slot `number` of an object, NULL where it has none."""
        slots = self.object(value)
        return slots[number - 1] if number <= len(slots) else NULL

    def copy(self, value: Value, writer: Writer, depth: int = 8) -> Value:
        """Write a value with all that it holds once more, with `writer`."""
        kind = value >> 28
        if kind in (0, INT):
            return value
        if kind in _INTS:
            return writer.integer(self.integer(value))
        if kind in _BLOBS:
            return writer.blob(self.blob(value))
        if not depth:
            raise AdbError("objects hold each other too deeply")
        return writer.object([self.copy(slot, writer, depth - 1) for slot in self.object(value)])

    def _number(self, kinds: dict[int, str], value: Value) -> int:
        try:
            number: int = struct.unpack_from(kinds[value >> 28], self._data, value & _VALUE_MASK)[0]
        except (KeyError, struct.error):
            raise AdbError("a value of another type, or outside of its block") from None
        return number


def container(
    schema: int, tree: bytes, signatures: Iterable[bytes] = (), files: Iterable[bytes] = ()
) -> bytes:
    """A whole file, compressed as `apk mkpkg` does it by default."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [MAGIC + struct.pack("<I", schema), _block(BLOCK_ADB, tree)]
    parts += [_block(BLOCK_SIG, signature) for signature in signatures]
    parts += [_block(BLOCK_DATA, content) for content in files]
    return DEFLATED + b"".join(squeeze.compress(part) for part in parts) + squeeze.flush()


def blocks(data: bytes, schema: int) -> Iterator[tuple[int, bytes]]:
    """Type and content of each block of a file. AdbError: it is no file of that schema."""
    if data.startswith(DEFLATED):
        inflate = zlib.decompressobj(-15)
        try:
            data = inflate.decompress(data[4:])
        except zlib.error:
            raise AdbError("no deflate stream behind ADBd") from None
        if not inflate.eof:
            raise AdbError("the file ends too early")
    if data[:8] != MAGIC + struct.pack("<I", schema):
        raise AdbError("no ADB file of this kind")
    at = 8
    while at < len(data):
        word = int.from_bytes(data[at : at + 4], "little")
        kind, size, head = word >> 30, word & 0x3FFFFFFF, 4
        if kind == BLOCK_EXT:
            kind, size, head = size, int.from_bytes(data[at + 8 : at + 16], "little"), 16
        if kind > BLOCK_DATA or size < head or at + size > len(data):
            raise AdbError("a block ends outside of the file")
        yield kind, data[at + head : at + size]
        at += size + -size % ALIGNMENT


def sign(key: Path, schema: int, tree: bytes) -> bytes:
    """The content of a SIG block: what apk checks against /etc/apk/keys, with a P-256 key in PEM.

    OSError, subprocess.CalledProcessError: no openssl, or it can't use the key.
    """
    head = _SIGNATURE.pack(0, SHA512, key_id(public_key(key)))
    message = struct.pack("<I", schema) + head + hashlib.sha512(tree).digest()
    return head + _openssl("dgst", "-sha512", "-sign", str(key), stdin=message)


def public_key(key: Path) -> bytes:
    """The public half of a private key, as a SubjectPublicKeyInfo in DER."""
    return _openssl("pkey", "-in", str(key), "-pubout", "-outform", "DER")


def key_id(public: bytes) -> bytes:
    """The name of a key in signatures: the start of the hash of its point. AdbError: not of P-256."""
    if len(public) != 91 or public[-65] != 4:
        raise AdbError("the key that signs packages for apk must be one of P-256 (make feed-key)")
    return hashlib.sha512(public[-65:]).digest()[:16]


def _openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, stdout=subprocess.PIPE, check=True).stdout


def _block(kind: int, content: bytes) -> bytes:
    size = len(content) + 4
    if size <= 0x3FFFFFFF:
        head = struct.pack("<I", kind << 30 | size)
    else:
        size = len(content) + 16
        head = struct.pack("<IIQ", BLOCK_EXT << 30 | kind, 0, size)
    return head + content + bytes(-size % ALIGNMENT)
