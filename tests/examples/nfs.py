# SPDX-License-Identifier: GPL-2.0-or-later
"""NFS by nfs-ganesha, which needs no kernel's nfsd: a client of libnfs keeps one file open all the time.

The protocol is NFS 3, which has no state on the server: the client's file handle is valid on every server
that exports the same file system. On each machine, rpcbind runs from boot, as Debian has it.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from tests.lab import LanLab

from .server import ADDRESS, RUN, Client, Server

CONFIG = """
NFS_CORE_PARAM { Protocols = 3; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; }
NFS_KRB5 { Active_krb5 = false; }
NFSV4 { Graceless = true; RecoveryRoot = %(run)s; }
EXPORT {
	Export_Id = 1; Path = %(data)s; Pseudo = /data; Access_Type = RW; Squash = None;
	Protocols = 3; Transports = TCP; SecType = sys; FSAL { Name = VFS; }
}
"""
URL = "nfs://{address}{data}?version=3&nfsport=2049&mountport=20048&autoreconnect=-1"
_NUMBER = struct.Struct("!Q")


class NfsClient(Client):
    """Writes a new number at its place in one file, and reads it back, always with the same file handle."""

    port = 2049

    def __init__(self, lab: LanLab) -> None:
        self._number = 0
        self._kept: list[int] = []
        self._file = lab.directory / "data" / "numbers"
        self._nfs = ctypes.CDLL("libnfs.so.13")
        self._nfs.nfs_init_context.restype = ctypes.c_void_p
        self._nfs.nfs_parse_url_dir.restype = ctypes.c_void_p
        self._nfs.nfs_get_error.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._nfs.nfs_init_context())
        self._handle: ctypes.c_void_p | None = None
        self.opened = 0  # times
        super().__init__(lab)

    def ask(self) -> bool:
        if self._handle is None:
            self._handle = self._open()
        number = self._number + 1
        data, back = _NUMBER.pack(number), ctypes.create_string_buffer(_NUMBER.size)
        place = ctypes.c_uint64(number * _NUMBER.size), ctypes.c_uint64(_NUMBER.size)
        if self._nfs.nfs_pwrite(self._context, self._handle, *place, data) != _NUMBER.size:
            return False
        if self._nfs.nfs_pread(self._context, self._handle, *place, back) != _NUMBER.size:
            return False
        assert back.raw == data
        self._number = number
        self._kept.append(number)
        return True

    def _open(self) -> ctypes.c_void_p:
        self.reach()
        url = URL.format(address=ADDRESS, data=self.data).encode()
        path = str(self.data).encode()
        self._check(0 if self._nfs.nfs_parse_url_dir(self._context, url) else -1)
        self._check(self._nfs.nfs_mount(self._context, ADDRESS.encode(), path))
        handle = ctypes.c_void_p()
        self._check(self._nfs.nfs_open(self._context, b"/numbers", os.O_RDWR, ctypes.byref(handle)))
        self.opened += 1
        return handle

    def _check(self, status: int) -> None:
        if status < 0:
            raise OSError(self._nfs.nfs_get_error(self._context).decode())

    def lost(self) -> str:
        assert self.opened == 1, "the file handle is the first one"
        data = self._file.read_bytes()
        gone = [number for number in self._kept if _NUMBER.unpack_from(data, number * 8)[0] != number]
        return f"numbers {gone}" if gone else ""


class Nfs(Server):
    name, comm = "nfs", "ganesha.nfsd"
    boot = "rpcbind -w\n"

    def write(self, directory: Path) -> None:
        data = directory / "data"
        data.mkdir(exist_ok=True)
        (data / "numbers").touch()
        (directory / "ganesha.conf").write_text(CONFIG % {"data": data, "run": RUN})

    def command(self, directory: Path) -> str:
        files = f"-f {directory}/ganesha.conf -p {RUN}/pid -L {RUN}/log"
        return f"/usr/bin/ganesha.nfsd -F {files}"

    def client(self, lab: LanLab) -> Client:
        return NfsClient(lab)
