"""A wall clock that can be set, for every Python process that is started with it: `$GIGQ_TEST_CLOCK` names the offset.

In a folder of PYTHONPATH. The file holds the seconds to add, as a double of 8 bytes; all processes see a change at
once. The monotonic clock goes on as it is, as it does when somebody sets a real clock.
"""

import mmap
import os
import struct
import time

_path = os.environ["GIGQ_TEST_CLOCK"]
with open(_path, "r+b") as _file:
    _page = mmap.mmap(_file.fileno(), 8, prot=mmap.PROT_READ)
_real, _read = time.time, struct.Struct("d").unpack_from

time.time = lambda: _real() + _read(_page)[0]
time.time_ns = lambda: int(time.time() * 1e9)
