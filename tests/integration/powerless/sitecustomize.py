"""Python runs this at the start of every process that has its folder on the path: root is refused like any other user.

Root may write into a folder that is read-only for all: CAP_DAC_OVERRIDE, which this gives up.
"""

import ctypes
import os

_VERSION_3, _DAC_OVERRIDE = 0x20080522, 1

if os.geteuid() == 0:
    _libc = ctypes.CDLL(None, use_errno=True)
    _header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    _sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    if _libc.capget(_header, _sets):
        raise OSError(ctypes.get_errno(), "capget")
    _sets[0] &= ~(1 << _DAC_OVERRIDE)
    if _libc.capset(_header, _sets):
        raise OSError(ctypes.get_errno(), "capset")
