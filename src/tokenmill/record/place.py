"""What kind of file system a folder is on: a record is kept in another way where other hosts may see its files.

SQLite's write-ahead log needs memory that all who open it share, which no network file system gives. What isn't known
to be this machine's own is taken for one of the network: that costs a little time and no answer.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

#: The first field of `struct statfs`, by the names that mount(8) uses.
_OWN = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
    0x2FC12FC1: "zfs",
    0x794C7630: "overlay",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
    0x3153464A: "jfs",
    0x52654973: "reiserfs",
    0x4D44: "vfat",
    0x2011BAB0: "exfat",
    0x5346544E: "ntfs",
    0x73717368: "squashfs",
}
_OTHERS = {
    0x6969: "nfs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x0BD00BD0: "lustre",
    0x47504653: "gpfs",
    0x19830326: "beegfs",
    0x00C36400: "ceph",
    0x01021997: "9p",
    0x65735546: "fuse",
    0x7461636F: "ocfs2",
    0x01161970: "gfs2",
    0x5346414F: "afs",
    0xAAD7AAEA: "panfs",
}


def shared_kind(folder: Path) -> str:
    """The name of the file system if other hosts may see this folder, empty if it is this machine's own."""
    if sys.platform != "linux":
        return ""
    magic = _magic(folder)
    return "" if magic in _OWN else _OTHERS.get(magic, f"a file system of kind {magic:#x}")


def _magic(folder: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(512)  # struct statfs has 120 bytes, its first field is a long
    if libc.statfs(os.fsencode(folder), buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(folder))
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
