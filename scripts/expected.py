# SPDX-License-Identifier: GPL-2.0
"""What the stock kernel gives, as recorded by scripts/baseline.

It depends on the base kernel, on the emulated machine and on the compilers, so a
record names those it was made with, and holds for these only.  The records for
others than those in scripts/expected are made when needed, in build/expected.
"""
import functools
import hashlib
import os
import re
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COMMITTED = os.path.join(TOP, "scripts/expected")
LOCAL = os.path.join(TOP, "build/expected")


def output(*command, **env):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True,
                          env=dict(os.environ, **env)).stdout


def version(command, parts):
    first = output(command, "--version").split("\n")[0]
    return ".".join(re.search(r"\d+(\.\d+)+", first)[0].split(".")[:parts])


@functools.lru_cache
def environment(kernel):
    """One line; `kernel` is stock or stock-debug."""
    base = output("git", "-C", os.path.join(TOP, "build/tree"), "rev-parse", "base^{tree}")
    wanted = output(os.path.join(TOP, "scripts/build"), kernel, SHOW_WANTED="1")
    return (f"base {base[:12]}, configuration {hashlib.sha1(wanted.encode()).hexdigest()[:12]}, "
            f"QEMU {version('qemu-system-x86_64', 2)}, clang {version('clang-19', 3)}, "
            f"gcc {version('gcc', 2)}, libc {version('ldd', 2)}")


def read(name, kernel):
    """The lines of the record that holds here, or None."""
    for folder in (COMMITTED, LOCAL):
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                lines = f.read().split("\n")
        except FileNotFoundError:
            continue
        if f"# With: {environment(kernel)}" in lines:
            return [line for line in lines if line and not line.startswith("#")]
    return None


def write(folder, name, kernel, header, lines):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        f.write("".join(f"# {line}".rstrip() + "\n"
                        for line in [*header, f"With: {environment(kernel)}"]))
        f.write("".join(line + "\n" for line in lines))
