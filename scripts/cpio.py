# SPDX-License-Identifier: GPL-2.0
"""Archives for the kernel's initramfs."""


class Cpio:
    """An archive in the form the kernel unpacks at boot ("newc")."""

    def __init__(self):
        self.data = bytearray()
        self.inode = 0

    def add(self, name, mode, body=b"", device=(0, 0)):
        self.inode += 1
        fields = (self.inode, mode, 0, 0, 1, 0, len(body), 0, 0,
                  device[0], device[1], len(name) + 1, 0)
        self.data += b"070701" + b"".join(b"%08x" % f for f in fields)
        self.data += name.encode() + b"\0"
        self.data += b"\0" * (-len(self.data) % 4)
        self.data += body
        self.data += b"\0" * (-len(self.data) % 4)

    def directory(self, name):
        self.add(name, 0o040755)

    def file(self, name, body, mode=0o100755):
        self.add(name, mode, body)

    def done(self):
        self.add("TRAILER!!!", 0)
        self.data += b"\0" * (-len(self.data) % 512)
        return bytes(self.data)
