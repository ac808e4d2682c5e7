"""Make system calls of this process fail, all threads of it, till its end: a filter of the kernel's, seccomp(2).

Needs neither root nor a tracer. As a program it is `python -m gigq`, in which what `$GIGQ_TEST_BREAK` names fails from
a SIGUSR1 on.
"""

import ctypes
import os
import platform
import signal
import struct

_NUMBERS = {
    "x86_64": {"seccomp": 317, "fsync": 74, "fdatasync": 75, "pwrite64": 18},
    "aarch64": {"seccomp": 277, "fsync": 82, "fdatasync": 83, "pwrite64": 68},
}


def _has_filters() -> bool:
    try:
        with open("/proc/self/status") as status:
            return "\nSeccomp:" in status.read()
    except OSError:
        return False


IS_POSSIBLE = platform.system() == "Linux" and platform.machine() in _NUMBERS and _has_filters()

_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _TSYNC = 38, 1, 1
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


def fail(error: int, *calls: str) -> None:
    """Let each of `calls` end with `error` from now on."""
    numbers = _NUMBERS[platform.machine()]
    program = [(_LOAD, 0, 0, 0)]  # the number of the call
    for index, call in enumerate(calls):
        program.append((_JUMP_IF_EQUAL, len(calls) - index, 0, numbers[call]))
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERROR | error)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
        numbers["seccomp"], _SET_MODE_FILTER, _TSYNC, filter
    ):
        raise OSError(ctypes.get_errno(), "no filter of system calls can be set")


if __name__ == "__main__":
    error, *calls = os.environ["GIGQ_TEST_BREAK"].split()
    signal.signal(signal.SIGUSR1, lambda number, frame: fail(int(error), *calls))

    from gigq.cli import main

    main()
