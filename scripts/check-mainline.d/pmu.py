# SPDX-License-Identifier: GPL-2.0
"""Counts a probe of the uprobe PMU, which needs no event in tracefs.

    pmu.py FILE OFFSET RETURN COUNT     runs FILE COUNT; RETURN is 1 for returns
"""
import ctypes
import os
import struct
import sys

PMU = "/sys/bus/event_source/devices/uprobe/"
PERF_EVENT_OPEN = 298
DISABLED, INHERIT, ENABLE_ON_EXEC = 1, 1 << 1, 1 << 12


def read(name):
    with open(PMU + name, encoding="ascii") as f:
        return f.read().strip()


def main():
    path, offset, at_return, count = sys.argv[1:]
    config = 0
    if at_return == "1":
        config = 1 << int(read("format/retprobe").removeprefix("config:"))
    path_buffer = ctypes.create_string_buffer(path.encode())
    size = 128
    attr = bytearray(size)
    struct.pack_into("=IIQQQQQ", attr, 0, int(read("type")), size, config, 0, 0, 0,
                     DISABLED | INHERIT | ENABLE_ON_EXEC)
    struct.pack_into("=QQ", attr, 56, ctypes.addressof(path_buffer), int(offset, 16))
    ready, go = os.pipe()
    child = os.fork()
    if not child:
        os.read(ready, 1)
        os.execv(path, [path, count])
    libc = ctypes.CDLL(None, use_errno=True)
    event = libc.syscall(PERF_EVENT_OPEN, (ctypes.c_char * size).from_buffer(attr), child, -1, -1, 0)
    error = ctypes.get_errno()
    os.write(go, b"x")
    os.waitpid(child, 0)
    if event < 0:
        sys.exit(f"perf_event_open: {os.strerror(error)}")
    print(f"hits={struct.unpack('=Q', os.read(event, 8))[0]}")


main()
