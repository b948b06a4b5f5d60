#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Calls functions of the interpreter and of the C library, which call back.

See ../languages.py for the input and the output.
"""
import ctypes
import itertools
import sys
import threading
import time

THREADS = 2
NAMES = ("eval", "format", "dir", "qsort")
NUMBERS = ctypes.c_int * 12
COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
qsort = ctypes.CDLL(None).qsort
qsort.restype = None
qsort.argtypes = [ctypes.POINTER(ctypes.c_int), ctypes.c_size_t, ctypes.c_size_t, COMPARE]


class Failure(Exception):
    pass


class Worker(threading.Thread):
    """Counts calls. In C, a call that raises an exception returns as well, a null pointer."""

    def __init__(self, end):
        super().__init__()
        self.end = end
        self.calls = dict.fromkeys(NAMES, 0)
        self.returns = dict.fromkeys(NAMES, 0)
        self.sums = []
        self.code = compile("recurse(depth - 1, fail) if depth else bottom(fail)", "eval", "eval")
        self.scope = {"recurse": self.recurse, "bottom": self.bottom}
        self.compare = COMPARE(self.compared)
        self.inner = False

    def counted(self, name, function, *args):
        self.calls[name] += 1
        try:
            return function(*args)
        finally:
            self.returns[name] += 1

    def bottom(self, fail):
        if fail:
            raise Failure
        return 7

    def recurse(self, depth, fail):
        return self.counted("eval", eval, self.code, self.scope, {"depth": depth, "fail": fail}) + 3

    def evaluations(self, depth):
        total = self.recurse(depth, False)
        try:
            total += self.recurse(depth, True)
        except Failure:
            total += 1
        return total

    def __format__(self, spec):
        if spec == "":
            raise Failure
        return f"<{self.counted('format', format, self, spec[1:])}>"

    def formats(self, i):
        try:
            return len(self.counted("format", format, self, "x" * (i % 4)))
        except Failure:
            return 5

    def __dir__(self):
        if self.sums is None:
            raise Failure
        return ["b", "a"]

    def directories(self, i):
        sums, total = self.sums, 0
        self.sums = None if i % 3 == 0 else sums
        try:
            total = len(self.counted("dir", dir, self))
        except Failure:
            total = 9
        self.sums = sums
        return total

    def compared(self, a, b):
        if not self.inner:
            self.inner = True
            self.sorted(a[0])
            self.inner = False
        return a[0] - b[0]

    def sorted(self, seed):
        numbers = NUMBERS(*((i + seed) * 7919 % 31 for i in range(12)))
        self.counted("qsort", qsort, numbers, 12, ctypes.sizeof(ctypes.c_int), self.compare)
        return sum(i * n for i, n in enumerate(numbers))

    def iteration(self):
        total = self.evaluations(20)
        for i in range(12):
            total = total * 31 + self.formats(i)
            total = total * 31 + self.directories(i)
            total = total * 31 + self.evaluations(2)
        return (total * 31 + self.sorted(3)) % 0x7fffffff

    def run(self):
        for _ in itertools.count():
            self.sums.append(self.iteration())
            if time.monotonic() >= self.end:
                break


def run(seconds):
    end = time.monotonic() + seconds
    workers = [Worker(end) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sums = [total for worker in workers for total in worker.sums]
    for name in NAMES:
        print("count", name, sum(worker.calls[name] for worker in workers),
              sum(worker.returns[name] for worker in workers))
    print("iterations", len(sums))
    print("sum", sums[0] if len(set(sums)) == 1 else "differs")
    print("done", flush=True)


def main():
    print("ready", flush=True)
    for line in sys.stdin:
        run(float(line))


if __name__ == "__main__":
    main()
