"""The system calls that are refused in the sandbox, as a seccomp filter (classic BPF) for bubblewrap.

The filter refuses new processes, sockets, tracing, mounting, namespaces, and kernel memory that the limit on address
space doesn't count. RLIMIT_NPROC can't replace the rule for processes: before Linux 5.14 it counts a user's processes
on the whole machine, and it never applies to root. https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import errno
import platform
import struct
import sys

# Name: number on x86_64, on aarch64 (None if it has no such call).
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "mount_setattr": (442, 442),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "swapon": (167, 224),
    "acct": (163, 89),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, and the kernel's AUDIT_ARCH
_CLONE, _CLONE3, _CLONE_THREAD = (56, 220), 435, 0x10000
_X32 = 0x40000000  # the bit of x86_64's second set of numbers

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


def system_call_filter() -> bytes | None:
    """The filter in bubblewrap's format, or None on a machine whose system call numbers are not listed here."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return None
    column, architecture = _MACHINES[platform.machine()]
    steps = [_step(_LOAD, 4), _step(_EQUAL, architecture, 1, 0), _step(_RETURN, _KILL), _step(_LOAD, 0)]
    # clone3 keeps its flags where a filter can't read them. "No such call" makes the C library use clone.
    steps += [_step(_EQUAL, _CLONE3, 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS)]
    refuse = _step(_RETURN, _ERROR | errno.EPERM)
    if column == 0:
        steps += [_step(_AT_LEAST, _X32, 0, 1), refuse]
    for numbers in _REFUSED.values():
        number = numbers[column]
        if number is not None:
            steps += [_step(_EQUAL, number, 0, 1), refuse]
    # clone is allowed for threads and refused for processes. Its flags are the first argument on both architectures.
    steps += [_step(_EQUAL, _CLONE[column], 0, 3), _step(_LOAD, 16), _step(_ANY_BIT, _CLONE_THREAD, 1, 0), refuse]
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction. If its condition holds, the next `if_true` instructions are skipped, else the next
    `if_false`."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
