# SPDX-License-Identifier: GPL-2.0
"""Rates of bursts of hits, without the time in which other programs had this machine's processors.

Two lines "@times RUN WAIT..." of scripts/guest enclose a burst: for each of the guest's
processors, the nanoseconds that its thread has run, and that it has been ready to run and
waited for a processor of this machine. The waiting is subtracted from the burst's time. A
thread that is blocked does not wait in this sense, as with QEMU's big lock or without
anything to do in the guest; so this time stays, and is a cost.
"""
import statistics
from dataclasses import dataclass

# Two processors that seldom run at once do not disturb each other.
MOST_WAITING = 0.1


@dataclass
class Burst:
    threads: int
    rate: float     # hits a second
    waiting: float  # which part of the time its processors have waited


def bursts(lines, ticks_per_second):
    """Yields the bursts of which the times are known."""
    times, burst = None, None
    for line in lines:
        word, numbers = line[0], [int(word) for word in line[1:]]
        if word == "@bursts":   # of another guest, if the first one is lost
            times, burst = None, None
        elif word == "burst":
            burst = numbers
        elif word == "@times":
            if burst and times and numbers:
                threads, hits, ticks = burst
                yield burst_of(threads, hits, ticks * 1e9 / ticks_per_second, times, numbers)
            times, burst = numbers, None


def burst_of(threads, hits, nanoseconds, before, after):
    waits = [b - a for a, b in zip(before[1::2], after[1::2])][:threads]
    waiting = min(sum(waits) / len(waits) / nanoseconds, 0.99)
    return Burst(threads, hits * 1e9 / nanoseconds / (1 - waiting), waiting)


def is_undisturbed(burst):
    return burst.waiting <= MOST_WAITING


def ratio(found, threads):
    """The median rate of bursts of so many threads, by that of one thread; None if not known."""
    def rates(number):
        return [b.rate for b in found if b.threads == number and is_undisturbed(b)]
    many, one = rates(threads), rates(1)
    return statistics.median(many) / statistics.median(one) if many and one else None


def share(runs):
    """Which part of all bursts was undisturbed."""
    found = [is_undisturbed(burst) for run in runs for burst in run]
    return sum(found) / len(found) if found else 0
