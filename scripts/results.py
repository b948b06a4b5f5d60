# SPDX-License-Identifier: GPL-2.0
"""Test results: one line each, a count at the end, and the reading of KTAP."""
import re
import time


class Results:
    def __init__(self):
        self.count = {"ok": 0, "not ok": 0, "skip": 0}

    def add(self, state, name, where, seconds=None, reason=""):
        self.count[state] += 1
        took = f", {seconds:.1f} s" if seconds is not None else ""
        print(f"{state} {name} ({where}{took})" + (f": {reason}" if reason else ""), flush=True)

    def add_lines(self, line):
        """Counts a result line that another script has printed."""
        for state in ("not ok", "ok", "skip"):
            if line.startswith(state + " "):
                self.count[state] += 1

    def summary(self):
        return (f"{self.count['ok']} passed, {self.count['not ok']} failed, "
                f"{self.count['skip']} skipped")


RESULT = re.compile(r"(not ok|ok) (\d+)(?: -)?(?: ([^#]*?))?\s*(?:# *(.*))?$")


class Program:
    """Reads the KTAP that one test program prints, line by line."""

    def __init__(self, results, name, where):
        self.results, self.name, self.where = results, name, where
        self.planned = None
        self.seen = self.failed = self.skipped = 0
        self.start = self.last = time.monotonic()
        self.whole_skipped = ""

    def line(self, line):
        plan = re.match(r"1\.\.(\d+)(?:\s*# SKIP\s*(.*))?$", line)
        if plan and self.planned is None:
            self.planned = int(plan[1])
            if self.planned == 0:
                self.whole_skipped = plan[2] or "nothing to test here"
            return
        match = RESULT.match(line)
        if not match:
            return
        state, _, case, directive = match.groups()
        now = time.monotonic()
        self.seen += 1
        skip = re.match(r"SKIP\b\s*(.*)", directive or "")
        name = f"{self.name}:{case}" if case else f"{self.name}:{self.seen}"
        if state == "not ok":
            self.failed += 1
            self.results.add("not ok", name, self.where, now - self.last, directive or "")
        elif skip:
            self.skipped += 1
            self.results.add("skip", name, self.where, None, skip[1] or "no reason given")
        else:
            self.results.add("ok", name, self.where, now - self.last)
        self.last = now

    def end(self, status):
        """The program has ended; status None: it was lost with its guest."""
        took = time.monotonic() - self.start
        whole = self.results.add
        if status is None:
            whole("not ok", self.name, self.where, took, "the guest was lost")
        elif status in (124, 137):
            whole("not ok", self.name, self.where, took, "it did not end in time")
        elif status == 4 or self.whole_skipped or self.skipped == self.seen > 0:
            # Our kernels have what the tests need: then this tells nothing.
            whole("not ok", self.name, self.where, took,
                  f"all of it was skipped {self.whole_skipped}".strip())
        elif self.planned is None and self.seen == 0:
            whole("ok" if status == 0 else "not ok", self.name, self.where, took,
                  "" if status == 0 else f"exit status {status}")
        elif self.planned is not None and self.seen != self.planned:
            whole("not ok", self.name, self.where, took,
                  f"{self.seen} results of {self.planned}; exit status {status}")
        elif status and not self.failed:
            whole("not ok", self.name, self.where, took, f"exit status {status}")


def kunit(log_lines, results, where, ours):
    """Reports KUnit's results in a kernel log: our suites by case, others as a whole.

    Returns the names of the suites."""
    suites, suite = [], None
    for line in log_lines:
        line = re.sub(r"^\[ *\d+\.\d+\] ?(\[ *[TC]\d+\] ?)?", "", line)
        depth = (len(line) - len(line.lstrip(" "))) // 4
        line = line.strip()
        started = re.match(r"# Subtest: (\S+)", line)
        if started and depth == 1:
            suite = started[1]
            suites.append(suite)
            continue
        match = RESULT.match(line)
        if not match or suite is None:
            continue
        state, _, case, directive = match.groups()
        by_case = re.match(ours, suite)
        if depth == (1 if by_case else 0):
            skip = re.match(r"SKIP\b\s*(.*)", directive or "")
            name = f"kunit:{suite}.{case}" if by_case else f"kunit:{suite}"
            if skip and state == "ok":
                results.add("skip", name, where, None, skip[1] or "no reason given")
            else:
                results.add(state, name, where, None, directive if state == "not ok" else "")
        if depth == 0:
            suite = None
    if suite is not None:
        results.add("not ok", f"kunit:{suite}", where, None, "the suite did not end")
    return suites
