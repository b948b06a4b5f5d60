# SPDX-License-Identifier: GPL-2.0
"""What has been measured: records, of values of several runs; and traps, by QEMU's log."""
import statistics

# A count that differs by more between boots is not given.
REPRODUCED = 0.01


def spread(values):
    """How far apart they are, by their median; None if that says nothing."""
    middle = statistics.median(values)
    apart = max(values) - min(values)
    if not apart:
        return 0.0
    return apart / abs(middle) if middle else None


class Results:
    def __init__(self):
        self.records = []

    def add(self, values, case, instruction, who, unit="instructions", **more):
        """Values of several runs; None is of a run in which it could not be had.

        The figure is their median.
        """
        had = [value for value in values if value is not None]
        record = {"case": case, "instruction": instruction, "kernel": who, "cpus": 1,
                  "runs": len(had), **more}
        if not had:
            record["available"] = False
        else:
            apart = spread(had)
            if apart is not None:
                record["spread"] = round(apart, 5)
            if unit == "instructions" and (len(had) < len(values) or apart is None
                                           or apart > REPRODUCED):
                record["reproduced"] = False
            else:
                record[unit] = round(statistics.median(had), 2)
        self.records.append(record)

    def find(self, **wanted):
        return [r for r in self.records if all(r.get(k) == v for k, v in wanted.items())]


def same_lines(runs):
    """For each line CASE INSTRUCTION VALUE of the runs: (case, instruction, values).

    ValueError if the runs did not measure the same.
    """
    for lines in zip(*runs, strict=True):
        if len({tuple(line[:2]) for line in lines}) != 1:
            raise ValueError(f"not the same in each run: {lines}")
        case, instruction, _ = lines[0]
        yield case, instruction, [None if line[2] == "-" else float(line[2]) for line in lines]


def segments(log):
    """How many breakpoint and debug traps there were between divisions by zero.

    Of the lines of QEMU's log of exceptions; those in user mode count.
    """
    counts = None
    for line in log:
        if " v=" not in line or "cpl=3" not in line:
            continue
        vector = line.split(" v=", 1)[1][:2]
        if vector == "00":
            if counts is not None:
                yield counts
            counts = [0, 0]
        elif counts is not None and vector in ("03", "01"):
            counts[vector == "01"] += 1
    if counts is not None:
        yield counts
