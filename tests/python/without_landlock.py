"""Runs a program as on a kernel without Landlock: its system calls are answered with ENOSYS. Arguments: the program and its own."""

import ctypes
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, AT_LEAST, MORE_THAN, ANSWER = 0x20, 0x35, 0x25, 0x06
ENOSYS, ALLOW = 0x00050000 | 38, 0x7FFF0000
# Landlock has the numbers 444 to 446, on every architecture. (linux/filter.h: code, jump if true and if false, operand)
PROGRAM = [(LOAD, 0, 0, 0), (AT_LEAST, 0, 2, 444), (MORE_THAN, 1, 0, 446), (ANSWER, 0, 0, ENOSYS), (ANSWER, 0, 0, ALLOW)]


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_char_p)]


libc = ctypes.CDLL(None)
code = Filter(len(PROGRAM), b"".join(struct.pack("HBBI", *line) for line in PROGRAM))
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(code)) == 0
os.execv(sys.argv[1], sys.argv[1:])
