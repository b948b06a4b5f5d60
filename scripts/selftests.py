# SPDX-License-Identifier: GPL-2.0
"""Test programs of the kernel tree: building collections, a run in a guest, cases.

A case is a KTAP result, or all that a program prints after one of its `[RUN]`
lines; so are the exit status, and what the kernel reports while the program runs.
"""
import os
import re
import subprocess
import time

import expected
import splats
from results import RESULT

TOP = expected.TOP
LOGS = os.path.join(TOP, "build/logs")
SOURCE = os.path.join(TOP, "build/tree/tools/testing/selftests")


def sh(*command, log, **kw):
    log.write(f"$ {' '.join(command)}\n")
    log.flush()
    return subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True, **kw)


def edited(*paths):
    """Those of the paths, relative to the tree, which the series changes."""
    return expected.output("git", "-C", os.path.join(TOP, "build/tree"), "diff", "--name-only",
                           "base", "--", *paths)


def headers(built, log):
    """Installs the kernel's headers for user space; returns their folder."""
    folder = os.path.join(built, "headers")
    sh("bash", "-c", '. scripts/lib.sh; kernel_make "$0.o" headers_install '
       'INSTALL_HDR_PATH="$0"', folder, log=log, cwd=TOP)
    return os.path.join(folder, "include")


def make_command(collection, built, include):
    """The start of a make command for a collection, whose objects go to `built`."""
    return ["make", "-C", os.path.join(SOURCE, collection), "CC=gcc", f"COLLECTION={collection}",
            f"KHDR_INCLUDES=-isystem {include}",
            f"OUTPUT={built}/{collection}.o", f"INSTALL_PATH={built}/{collection}"]


def plain(text):
    """Without addresses and process ids, which differ from run to run."""
    text = re.sub(r"\b(0x)?(?=[0-9a-f]*\d)[0-9a-f]{7,}\b", "…", text)
    return re.sub(r"\s+", " ", text).strip()


class Cases:
    """Collects the cases of one program from what it prints."""

    def __init__(self):
        self.values = {}
        self.run = None       # the last [RUN] line
        self.results = []     # since then

    def add(self, name, value):
        number, unique = 1, name
        while unique in self.values:
            number += 1
            unique = f"{name} #{number}"
        self.values[unique] = value

    def end_run(self):
        if not self.results and self.run is None:
            return
        # A few results in words, many by their number.
        if len(self.results) <= 4:
            value = "; ".join(f"{state} {text}" for state, text in self.results)
        else:
            states = [state for state, _ in self.results]
            value = ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states)))
        self.add(self.run or "(at first)", value or "no result")
        self.results = []

    def line(self, line):
        old = re.match(r"\[(RUN|OK|PASS|FAIL|SKIP|XFAIL)\]\s*(.*)", line)
        ktap = RESULT.match(line)
        if old and old[1] == "RUN":
            self.end_run()
            self.run = plain(old[2])
        elif old:
            self.results.append((old[1], plain(old[2])))
        elif ktap:
            state, number, name, directive = ktap.groups()
            word = re.match(r"(SKIP|XFAIL|XPASS|TODO)\b", directive or "")
            # Where SKIP is all the name there is, the rest is the name.
            name = name or (directive or "")[len(word[0]) if word else 0:].strip() or number
            self.add(plain(name), f"{state}, {word[0].lower()}" if word else state)
        elif line.startswith("Bail out!"):
            self.add("Bail out!", plain(line[9:]))

    def end(self, status):
        self.end_run()
        self.add("exit status", {124: "no end in time", 137: "killed"}.get(status, str(status)))
        return self.values


def run(kernel, folder, programs, log, load=False, timeout=1200, append=""):
    """Runs {program: seconds it may take} in the folder where they are built.

    Returns {program: {case: value}} and {program: seconds}; of one guest, but for QEMU's faults.
    """
    values, seconds, guests = {}, {}, splats.Guests()
    folder_of_log, name = os.path.split(log.removesuffix(".log"))
    while left := [p for p in programs if p not in values]:
        stem = os.path.join(folder_of_log, guests.log_name(name))
        limits = {p: programs[p] for p in left}
        lines = run_in_guest(kernel, folder, limits, stem, load, timeout, append, values, seconds)
        unended = [p for p in left if p not in values]
        if unended and guests.again(lines, progress=len(unended) < len(left)):
            add_reports(values, lines, [p for p in left if p in values])
            continue
        for program in unended:
            values[program] = {"exit status": "the guest was lost"}
        add_reports(values, lines)
    return values, seconds


def run_in_guest(kernel, folder, limits, stem, load, timeout, append, values, seconds):
    """Adds the values and seconds of the programs that end; returns the lines of the kernel's log."""
    items = [f"'{limit} {program}'" for program, limit in limits.items()]
    command = f"scripts/guest-tests {folder} {' '.join(items)}"
    if load:
        command = f"for i in 1 2; do while :; do :; done & done; {command}; kill $(jobs -p)"
    # An oops is a result here, and may be one on the stock kernel.
    env = dict(os.environ, KERNEL=kernel, SPLAT_OK="1", LOG=f"{stem}.log", TIMEOUT=str(timeout),
               APPEND=append, SILENCE=str(max(limits.values()) + 60))
    program = None
    with open(f"{stem}.out", "w", buffering=1, encoding="utf-8") as out, \
         subprocess.Popen([os.path.join(TOP, "scripts/guest"), command], env=env, text=True,
                          errors="replace", stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as guest:
        for line in guest.stdout:
            out.write(line)
            words = line.split()
            if line.startswith("@begin "):
                program, cases, start = words[1], Cases(), time.monotonic()
            elif line.startswith("@end ") and program:
                values[program] = cases.end(int(words[2]))
                seconds[program] = time.monotonic() - start
                program = None
            elif program:
                cases.line(line.rstrip("\n"))
    with open(f"{stem}.log", errors="replace", encoding="utf-8") as f:
        return f.read().replace("\r", "").split("\n")


def add_reports(values, lines, only=None):
    """What the kernel reported, to the program that was running; ONLY to these."""
    for splat in splats.find(lines):
        name = splats.running(lines, splat, "start").removeprefix("after ")
        if only is not None and name not in only:
            continue
        cases = values.setdefault(name, {})
        text = plain(splats.TIME.sub("", splat.text[0]))
        number = sum(case.startswith("kernel log") for case in cases)
        cases[f"kernel log {number + 1}"] = text
