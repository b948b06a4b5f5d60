#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Programs in several languages with probes on the functions that keep them busy.

Arguments: the languages to run, of cxx, golang, node, python and rust; by default all. With c,
programs in C are run, one for each of several sets of compiler options, for 64 and 32 bits
(compilers.py).

Each program runs without probes, with them, and without them again. Its results must
be the same, and the counts of the probes must be the program's own counts of calls and
of calls that have returned.

A program prints "ready". Then, for each line of its input, which is a number of seconds,
it works for that long, at least one iteration, and prints

    count FUNCTION CALLS RETURNS        for each of its functions
    iterations NUMBER
    sum RESULT                          "differs" if iterations have different results
    done

Environment: UPROBES_SECONDS   seconds that each program works with probes (3)
             UPROBES_RETURNS=0 probe only calls
"""
import functools
import glob
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

TRACEFS = "/sys/kernel/tracing"
HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = os.environ.get("UPROBES_SECONDS") or "3"
RETURNS = os.environ.get("UPROBES_RETURNS") != "0"
PATIENCE = 200      # additional seconds that a program may take
GROUP = "languages"
SKIPPED = 4         # as in kselftest

# These options keep Node's compiler from replacing, moving, dropping or writing probed code. Not
# every version has all of them.
NODE_OPTIONS = ("--no-opt", "--always-sparkplug", "--no-compact", "--never-compact",
                "--no-compact-code-space", "--no-flush-bytecode")
NODE_MAP = ("--perf-basic-prof", "--perf-basic-prof-only-functions")


class Results:
    def __init__(self):
        self.number = 0
        self.failed = False

    def add(self, good, name, details=""):
        self.number += 1
        self.failed |= not good
        print(f"{'ok' if good else 'not ok'} {self.number} {name}")
        if details and not good:
            print(f"# {details}")
        sys.stdout.flush()

    def skip(self, name, why):
        self.number += 1
        print(f"ok {self.number} {name} # SKIP {why}", flush=True)


@functools.cache
class Elf:
    """Functions of a file, and their addresses in a process."""

    def __init__(self, path):
        self.path = path
        self.functions = {}
        for options in ((), ("-D",)):
            listed = subprocess.run(["nm", "-S", "--defined-only", *options, path], check=False,
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for line in listed.stdout.splitlines():
                self.add(line.split())

    def add(self, words):
        if len(words) == 4 and words[2] in "TtWi":
            self.functions[words[3].split("@")[0]] = (int(words[0], 16), int(words[1], 16))

    def first_segment(self):
        """Returns the address and the file offset of the first loaded segment."""
        with open(self.path, "rb") as f:
            header = f.read(64)
            start, = struct.unpack_from("<Q", header, 32)
            size, number = struct.unpack_from("<HH", header, 54)
            for i in range(number):
                f.seek(start + i * size)
                kind, _, offset, address = struct.unpack("<IIQQ", f.read(24))
                if kind == 1:
                    return address, offset
        raise ValueError(f"{self.path} has no segments")

    def is_fixed(self):
        """Returns whether the file is always loaded at its addresses, as ET_EXEC is."""
        with open(self.path, "rb") as f:
            return struct.unpack_from("<H", f.read(18), 16)[0] == 2

    def bias(self, pid):
        if self.is_fixed():
            return 0
        address, offset = self.first_segment()
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            for line in maps:
                words = line.split(maxsplit=5)
                if len(words) == 6 and words[5].strip() == self.path and int(words[2], 16) == 0:
                    return int(words[0].split("-")[0], 16) - (address - offset)
        raise ValueError(f"{self.path} is not in process {pid}")

    def extent(self, pid, symbol):
        start, size = self.functions[symbol]
        start += self.bias(pid)
        return start, start + size


def mapped_file(pid, pattern):
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        for line in maps:
            if re.search(pattern, line):
                return line.split(maxsplit=5)[5].strip()
    raise ValueError(f"no {pattern} in process {pid}")


def text_of(pid, start, end):
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(start)
        return memory.read(end - start)


class Program:
    """A running program."""

    def __init__(self, arguments, folder):
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, cwd=folder)
        self.pid = self.process.pid
        self.counts = {}
        self.iterations = self.sum = None

    def expect(self, last):
        """Reads the program's output up to the line LAST."""
        for line in self.process.stdout:
            words = line.split() or [""]
            if words[0] == "count":
                self.counts[words[1]] = (int(words[2]), int(words[3]))
            elif words[0] in ("iterations", "sum"):
                setattr(self, words[0], words[1])
            elif words[0] == last:
                return
        raise EOFError(f"it has ended, with status {self.process.wait()}")

    def run(self, seconds):
        self.counts, self.iterations, self.sum = {}, None, None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        self.expect("done")

    def finish(self):
        self.process.stdin.close()
        return self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Language:
    """A program, and the symbols of its functions by the names that it reports."""

    returns_by_instruction = ()     # functions that no direct jump leaves

    def __init__(self, name, symbols, binary=None):
        self.name = self.title = name
        self.symbols = symbols
        self.binary = binary or os.path.join(HERE, f"language_{name}")

    def arguments(self):
        return [self.binary]

    def extent(self, pid, function):
        return Elf(os.path.realpath(self.binary)).extent(pid, self.symbols[function])

    def probes(self, pid):
        """Yields each event: its name, function, count ("calls", "returns"), and command."""
        for function in self.symbols:
            start, end = self.extent(pid, function)
            yield f"{function}_calls", function, "calls", f"p {start:#x}"
            if RETURNS:
                yield f"{function}_returns", function, "returns", f"r {start:#x}"
                if function in self.returns_by_instruction:
                    yield f"{function}_ret", function, "returns", f"r {start:#x}-{end:#x}"

    def wrong(self, _pid, _hits):
        """Checks more of the hits. Returns the error of each check by its name, or ""."""
        return {}


class Compiled(Language):
    def __init__(self, name, functions, by_instruction):
        super().__init__(name, {f: f"probed_{f}" for f in functions.split()})
        self.returns_by_instruction = by_instruction.split()


class Options(Language):
    """A C program that is built with a set of options."""

    FUNCTIONS = ("leaf recurse tail pointer tail_pointer table large uses_large popping "
                 "uses_popping frame variadic interpret jump catches floats cold")

    def __init__(self, binary):
        super().__init__("c", {f: f"probed_{f}" for f in self.FUNCTIONS.split()}, binary)
        self.title = os.path.basename(binary)

    def arguments(self):
        return [self.binary]


class Go(Language):
    """Stacks move, so returns are detected at return instructions. A function begins
    again if its stack must grow or if it is preempted. Therefore, calls are counted
    after the check for that, which is the function's first branch."""

    # The comparison of the stack pointer, or of %r12, and a branch.
    CHECK = re.compile(rb"(?:\x4c\x8d\x64\x24.|\x4c\x8d\xa4\x24.{4})?[\x49\x4d]\x3b\x66\x10"
                       rb"(?:\x76(.)|\x0f\x86(.{4}))", re.DOTALL)

    def __init__(self):
        functions = ("leaf", "grow", "block", "panics", "recovers", "loops", "leave")
        super().__init__("golang", {f: f"main.probed{f.capitalize()}" for f in functions} |
                         {"square": "main.(*squares).area"})

    def check(self, pid, start, end):
        """Returns the addresses after the check, and of the code that grows the stack."""
        found = self.CHECK.match(text_of(pid, start, end))
        if not found:
            return start, None
        distance = int.from_bytes(found[1] or found[2], "little", signed=True)
        return start + found.end(), start + found.end() + distance

    def probes(self, pid):
        for function in self.symbols:
            start, end = self.extent(pid, function)
            begun, grows = self.check(pid, start, end)
            yield f"{function}_calls", function, "calls", f"p {begun:#x}"
            if RETURNS:
                yield f"{function}_ret", function, "returns", f"r {start:#x}-{end:#x}"
            if function == "grow":
                yield "grow_first", function, None, f"p {start:#x}"
                yield "grow_again", function, None, f"p {grows:#x}"

    def wrong(self, _pid, hits):
        first, again, calls = (hits[f"grow_{e}"] for e in ("first", "again", "calls"))
        return {"stacks have grown": "" if again else "none has",
                "grow: begun and begun again": "" if first == calls + again
                else f"{first} times begun, of these {again} again, but {calls} calls"}


class Python(Language):
    def __init__(self):
        super().__init__("python", {"eval": "PyEval_EvalCode", "format": "PyObject_Format",
                                    "dir": "PyObject_Dir", "qsort": "qsort"},
                         "/usr/bin/python3")

    def arguments(self):
        return [self.binary, os.path.join(HERE, "languages.d", "python.py")]

    def extent(self, pid, function):
        for pattern in (r"/libc[.-]", r"/libpython3", r"/python3[.0-9]*$"):
            try:
                elf = Elf(mapped_file(pid, pattern))
            except ValueError:
                continue
            if self.symbols[function] in elf.functions:
                return elf.extent(pid, self.symbols[function])
        raise ValueError(f"no {self.symbols[function]} in process {pid}")


class Node(Language):
    """A compiler makes the code at run time, and lists it in a file. Functions end
    with a jump to code that they all share."""

    def __init__(self):
        functions = ("leaf", "recurse", "throw", "callback", "construct", "variadic", "wait")
        super().__init__("node",
                         {f: f"probed_{f}" for f in functions} | {"getter": "get scaled"},
                         shutil.which("node") or "/usr/bin/node")

    def arguments(self):
        listed = subprocess.run([self.binary, "--v8-options"], stdout=subprocess.PIPE, text=True,
                                check=False)
        known = re.findall(r"^ +--([\w-]+) ", listed.stdout, re.M)
        options = [o for o in NODE_OPTIONS if re.sub("^--(no-)?", "", o) in known]
        return [self.binary, *options, *NODE_MAP, os.path.join(HERE, "languages.d", "node.js")]

    @staticmethod
    def compiled(pid):
        """Returns the extents of each function's code, former ones first."""
        functions = {}
        with open(f"/tmp/perf-{pid}.map", encoding="utf-8", errors="replace") as f:
            for line in f:
                found = re.match(r"(\w+) (\w+) \w+:\^(.*) .*/node\.js:", line)
                if found:
                    start = int(found[1], 16)
                    functions.setdefault(found[3], []).append((start, start + int(found[2], 16)))
        return functions

    def extent(self, pid, function):
        return self.compiled(pid)[self.symbols[function]][-1]

    def wrong(self, pid, _hits):
        compiled = self.compiled(pid)
        again = [f for f, symbol in self.symbols.items() if len(compiled[symbol]) != 1]
        os.remove(f"/tmp/perf-{pid}.map")
        return {"compiled once": f"these again: {' '.join(again)}" if again else ""}


LANGUAGES = [
    *(Options(path) for path in sorted(glob.glob(os.path.join(HERE, "options_*_[36][24]")))),
    Compiled("cxx",
             "leaf recurse descend throw square circle group tail target jump handler escape leave",
             by_instruction="leaf recurse group jump handler leave"),
    Go(),
    Node(),
    Python(),
    Compiled("rust", "leaf recurse panic descend square circle tail target",
             by_instruction="leaf recurse panic descend square circle target"),
]


# open() in mode "a" seeks the end, which these files do not have.
def control(name, text, how=os.O_TRUNC):
    descriptor = os.open(name, os.O_WRONLY | how)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def remove_events():
    if os.path.exists(f"events/{GROUP}"):
        control(f"events/{GROUP}/enable", "0")
    control("uprobe_events", "")


def last_error():
    with open("error_log", encoding="utf-8") as f:
        return " ".join(f.read().split("\n")[-4:]).strip()


def hits_of_all():
    hits = {}
    with open("uprobe_profile", encoding="utf-8") as f:
        for line in f:
            words = line.split()
            hits[words[1]] = int(words[2])
    return hits


class Test:
    """A test of a language's program, from its start to its end."""

    def __init__(self, language, results):
        self.language = language
        self.results = results
        self.program = None
        self.folder = tempfile.mkdtemp()
        self.events = []

    def check(self, good, what, details=""):
        self.results.add(good, f"{self.language.title}: {what}", details)

    def place(self):
        """Places all probes, and returns whether this succeeded."""
        self.events = list(self.language.probes(self.program.pid))
        for name, _, _, command in self.events:
            kind, where = command.split()
            line = f"{kind}:{GROUP}/{name} {self.program.pid}:{where}"
            try:
                control("uprobe_events", f"{line}\n", os.O_APPEND)
                control(f"events/{GROUP}/{name}/enable", "1")
            except OSError as error:
                self.check(False, "probes placed", f"{line}: {error.strerror}: {last_error()}")
                return False
        self.check(True, "probes placed")
        return True

    def compare(self, hits):
        program = self.program
        for name, function, what, _ in self.events:
            if not what:
                continue
            counted = program.counts[function][what == "returns"]
            label = "returns, by instruction" if name.endswith("_ret") else what
            self.check(hits[name] == counted, f"{function}: {label}",
                       f"{counted} counted by the program, {hits[name]} by the probe")
        for what, wrong in self.language.wrong(program.pid, hits).items():
            self.check(not wrong, what, wrong)
        total = [sum(count[i] for count in program.counts.values()) for i in (0, 1)]
        print(f"# {self.language.title}: {program.iterations} iterations, {total[0]} calls, "
              f"{total[1]} returns", flush=True)

    def steps(self):
        program = self.program = Program(self.language.arguments(), self.folder)
        program.expect("ready")
        program.run(0)
        without = program.sum
        if not self.place():
            return
        program.run(SECONDS)
        self.check(program.sum == without, "result", f"{program.sum}; without probes {without}")
        hits = hits_of_all()
        self.compare(hits)
        control(f"events/{GROUP}/enable", "0")
        program.run(0)
        self.check(program.sum == without and hits_of_all() == hits, "continues without probes",
                   f"{program.sum}; before {without}")
        status = program.finish()
        self.check(status == 0, "ends", f"status {status}")

    def run(self):
        signal.alarm(int(float(SECONDS)) + PATIENCE)
        try:
            self.steps()
        except (OSError, EOFError, ValueError, KeyError) as error:
            self.check(False, "runs", f"{type(error).__name__}: {error}")
        finally:
            signal.alarm(0)
            if self.program:
                self.program.stop()
            remove_events()
            shutil.rmtree(self.folder)


def skip_all(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(SKIPPED)


def enter_tracefs():
    if os.getuid():
        skip_all("needs root")
    if not os.path.exists(f"{TRACEFS}/README"):
        subprocess.run(["mount", "-t", "tracefs", "nodev", TRACEFS], check=False)
    os.chdir(TRACEFS)
    with open("README", encoding="utf-8") as readme:
        if "<pid>:<address>" not in readme.read():
            skip_all("uprobe_events takes no PID:VADDR")
    if not shutil.which("nm"):
        skip_all("needs nm")


def too_late(*_):
    raise TimeoutError("no answer")


def main(wanted):
    print("TAP version 13", flush=True)
    enter_tracefs()
    remove_events()
    signal.signal(signal.SIGALRM, too_late)
    results = Results()
    for language in LANGUAGES:
        if language.name not in (wanted or ("cxx", "golang", "node", "python", "rust")):
            continue
        if os.path.exists(language.binary):
            Test(language, results).run()
        else:
            results.skip(language.name, "not installed")
    if not results.number:
        skip_all("no program of these languages")
    print(f"1..{results.number}")
    sys.exit(int(results.failed))


if __name__ == "__main__":
    main(sys.argv[1:])
