# SPDX-License-Identifier: GPL-2.0
"""Find the kernel's reports about its own bugs ("splats") in its log."""
import re
import sys
from dataclasses import dataclass

# Each begins a report. User-space faults that the kernel only mentions
# ("traps: … general protection fault") are none.
BEGINS = re.compile(
    r"BUG:|BUG at|WARNING:|\bOops\b|Kernel panic|KASAN:|KCSAN:|UBSAN:|KFENCE:|"
    r"INFO: task .* blocked|\bself-detected stall|detected stalls? on|"
    r"rcu: INFO:|soft lockup|hard LOCKUP|workqueue lockup|"
    r"possible recursive locking|possible circular locking|inconsistent lock state|"
    r"suspicious RCU usage|invalid wait context|bad unlock balance|"
    r"held lock freed|lock held when returning to user|"
    r"sleeping function called|scheduling while atomic|refcount_t:|"
    r"(list|slab) corruption|ODEBUG:|kmemleak: \d+ new|unreferenced object|"
    r"rust_kernel: panicked|page_table_check|stack guard page|"
    r"kernel stack overflow|unable to handle|nobody cared|bad page state|Bad rss-counter")
# What other things print that looks like one.
HARMLESS = re.compile(r"Speculative Return Stack|uprobes-test-marker|uprobes-test-expect|"
                      r"unprivileged eBPF|NMI watchdog: Perf|traps: .* general protection")
# While identify_cpu() executes, the base kernel takes addresses for 48 bits wide. If they have 57,
# KASAN reports the accesses of an interrupt that comes just then, long before there is user mode.
BASE_BUG = ("KASAN: wild-memory-access", "identify_cpu+")
# With jump labels, two CPUs that QEMU's TCG emulates in threads of their own, and a busy host, a CPU
# may execute an int3 that smp_text_poke_batch_finish() has replaced in memory: the log shows another
# byte there. On a CPU this cannot be. Interrupts are disabled from the int3 to its handler, so that
# the CPU has not answered the interrupt for which the writer waits with its list still in place.
STRAY_INT3 = re.compile(r"Code:.* (?!cc)[0-9a-f]{2} <[0-9a-f]{2}>")
# A test whose module makes a mistake announces the report of it, which may also not come: many are
# for debug kernels only. It is for one report, whose first line has this text in it; until the test
# expects nothing more, or its program ends.
EXPECT = re.compile(r"uprobes-test-expect (.+)")
MARKER = re.compile(r"uprobes-test-marker (?:begin|end) ")
TIME = re.compile(r"^(<\d+>)?\[ *\d+\.\d+\] ?(\[ *[TC]\d+\] ?)?")
LENGTH = 60  # lines of a report worth showing
# How many guests a run gets if stray int3s end them: at most, and in turn without any progress.
GUESTS = 12
GUESTS_IN_VAIN = 3


@dataclass
class Splat:
    line: int   # index of its first line in the log
    text: list  # its lines


def find(lines):
    """The reports in a log, in order; one report may run into the next."""
    found, expected = [], []
    quiet_until = 0
    for i, line in enumerate(lines):
        text = TIME.sub("", line)
        if announced := EXPECT.search(text):
            expected.append(announced[1].strip())
        if MARKER.search(text) or expected[-1:] == ["nothing"]:
            expected.clear()
        if i < quiet_until or not BEGINS.search(text) or HARMLESS.search(text):
            continue
        report, is_whole = lines[i:i + LENGTH], False
        for n, following in enumerate(report):
            if "end trace" in following or "</TASK>" in following:
                report, is_whole = report[:n + 1], True
                break
        if as_announced := next((wanted for wanted in expected if wanted in text), None):
            expected.remove(as_announced)
            # It must not hide another one.
            quiet_until = i + len(report) if is_whole else i + 1
            continue
        if not all(any(part in line for line in report) for part in BASE_BUG):
            found.append(Splat(i, report))
        quiet_until = i + len(report)
    return found


def stray_int3(lines):
    """The index of the line that begins the report of a death as is said at STRAY_INT3, or None."""
    for i, line in enumerate(lines):
        if "Oops: int3:" in line:
            rip = [n for n, l in enumerate(lines[i:i + 5], i) if "RIP: 0010:" in l]
            stray = rip and any(STRAY_INT3.search(l) for l in lines[rip[0]:rip[0] + 2])
            return i if stray else None
    return None


class Guests:
    """Guests that take turns at a run, while stray int3s end them."""

    def __init__(self):
        self.number, self.in_vain = 1, 0

    def log_name(self, name):
        """The name of this guest's logs; the first one's is NAME."""
        return name if self.number == 1 else f"{name}-{self.number}"

    def again(self, lines, progress=False):
        """Whether the run continues in another guest, after the one with these lines in its log.

        With progress, such as the end of a program, the guest was not in vain.
        """
        self.number += 1
        self.in_vain = 0 if progress else self.in_vain + 1
        again = (self.number <= GUESTS and self.in_vain < GUESTS_IN_VAIN
                 and stray_int3(lines) is not None)
        if again:
            print(f"QEMU has executed a stray int3 (see scripts/splats.py): guest {self.number}",
                  file=sys.stderr, flush=True)
        return again


def running(lines, splat, before):
    """What scripts/guest-tests was running when it was reported: a program, or `before`."""
    for line in reversed(lines[:splat.line]):
        mark = re.search(r"uprobes-test-marker (begin|end) (\S+)", line)
        if mark:
            return mark[2] if mark[1] == "begin" else f"after {mark[2]}"
    return before
