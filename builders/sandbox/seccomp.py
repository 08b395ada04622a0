"""The filter of system calls that what runs in a sandbox gets: none that reaches other processes, mounts or namespaces.

Numbers are the kernel's (include/uapi/asm-generic/unistd.h, arch/x86/entry/syscalls/syscall_64.tbl).
"""

from __future__ import annotations

import platform
import struct
from functools import cache

from msgspec import Struct

_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_OTHER_ABI = 0x40000000
"""The bit of calls of the x32 ABI."""
_NAMESPACES = 0x7E020000
"""Flags of clone(2) that make namespaces."""
_INSTRUCTION = struct.Struct("=HBBI")
_FAMILIES = (1, 2, 10, 16, 17)
"""Families of sockets that a network namespace confines: unix, inet, inet6, netlink and packet. Sockets of others may leave it:
vsock(7) reaches the machine that a virtual one runs on."""
_NEW_CALLS = (428, 429, 430, 431, 432, 433, 442, 425, 426, 427, 447)
"""open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr, io_uring_setup, io_uring_enter, io_uring_register,
memfd_secret (whose memory nobody can count): the same on every machine."""


class _Machine(Struct, frozen=True, kw_only=True):
    """What the kernel calls a machine (audit.h), and its calls: those that are refused, clone, socket and clone3.

    Refused are ptrace, process_vm_readv, process_vm_writev, unshare, setns, mount, umount2, pivot_root, chroot, add_key,
    request_key, keyctl, bpf, perf_event_open, userfaultfd and syslog.
    """

    audit: int
    refused: tuple[int, ...]
    clone: int
    socket: int
    clone3: int = 435


_MACHINES = {
    "x86_64": _Machine(
        audit=0xC000003E,
        refused=(101, 310, 311, 272, 308, 165, 166, 155, 161, 248, 249, 250, 321, 298, 323, 103),
        clone=56,
        socket=41,
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        refused=(117, 270, 271, 97, 268, 40, 39, 41, 51, 217, 218, 219, 280, 241, 282, 116),
        clone=220,
        socket=198,
    ),
}


@cache
def system_call_filter(machine: str = platform.machine()) -> bytes:
    """Return a program for seccomp(2); empty for a machine whose calls are not known here."""
    known = _MACHINES.get(machine)
    if known is None:
        return b""
    refused = (*known.refused, *_NEW_CALLS)
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, known.audit),
        (_RETURN, 0, 0, _ERROR | _EPERM),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    families = len(_FAMILIES)
    # To the refusal, which is the last instruction: after the calls that are refused there are so many more.
    program += [(_EQUAL, len(refused) - at + families + 10, 0, number) for at, number in enumerate(refused, 1)]
    program += [
        (_AT_LEAST, families + 9, 0, _OTHER_ABI),
        (_EQUAL, families + 6, 0, known.clone3),
        (_EQUAL, 1, 0, known.clone),
        (_EQUAL, 2, families + 5, known.socket),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_ANY_BIT, families + 4, families + 3, _NAMESPACES),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        *((_EQUAL, families - at + 2, 0, family) for at, family in enumerate(_FAMILIES, 1)),
        (_RETURN, 0, 0, _ERROR | _EAFNOSUPPORT),
        (_RETURN, 0, 0, _ERROR | _ENOSYS),  # of clone3, whose flags no filter sees: libraries then use clone
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERROR | _EPERM),
    ]
    return b"".join(_INSTRUCTION.pack(*each) for each in program)
