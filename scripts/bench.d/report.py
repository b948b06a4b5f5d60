# SPDX-License-Identifier: GPL-2.0
"""The figures as a table and as plots."""
import os

import marks

CASES = ("empty-interrupt", "empty-task", "tracefs-noarg", "tracefs-reg", "tracefs-string", "perf",
         "bpf", "entry-return", "entry-return-sized")
SIZES = ("breakpoints", "probes", "threads", "processes")
SCALE_NOTE = """
`scale`: hits a second of one probe by threads on two processors, that of one thread on one of them
being 1. `apart`: the same of processes that have a probe each. QEMU delivers exceptions under a
lock of its own, which is a cost of both. Time in which other programs had the machine's
processors is subtracted; each value is the median of three boots.
"""
FLOOR = 215  # instructions of a bare trap on the base kernel; Documentation/trace/uprobes.rst


def instructions(results):
    """The probed instructions, in the order in which they were measured."""
    names = []
    for record in results.records:
        if record["case"] in CASES and record["instruction"] not in names:
            names.append(record["instruction"])
    return names


def without_figure(record):
    return "not reproduced" if record.get("available", True) else "–"


def cell(record, unit="instructions"):
    if record is None:
        return "–"
    if unit not in record:
        return without_figure(record)
    traps = f" ({record['traps']:g})" if "traps" in record else ""
    return f"{record[unit]:,.0f}{traps}"


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def first(found):
    return found[0] if found else None


def hits_table(results):
    names = instructions(results)
    rows = []
    for case in CASES:
        for kernel in ("ours", "mainline"):
            records = [first(results.find(case=case, instruction=name, kernel=kernel))
                       for name in names]
            if any(records):
                rows.append([case, kernel, *map(cell, records)])
    return ("Instructions a hit, and in brackets how often it traps (mainline's return probes also "
            "make a system call):\n\n" + markdown(["case", "kernel", *names], rows)) if rows else ""


def other_table(results):
    rows = []
    for record in results.records:
        case = record["case"]
        if case in CASES or case.startswith("time-"):
            continue
        size = next((f"{record[key]:,} {key}" for key in SIZES if key in record), "")
        unit = next((u for u in ("instructions", "ratio", "bytes") if u in record), None)
        value = f"{record[unit]:,.2f}" if unit else without_figure(record)
        rows.append([case, size, record["kernel"], value, unit or "",
                     f"{record['spread']:.2%}" if "spread" in record else ""])
    header = ["case", "of", "kernel", "value", "unit", "spread"]
    note = SCALE_NOTE if results.find(case="scale") else ""
    return markdown(header, rows) + note if rows else ""


def time_table(results):
    rows = []
    for case in CASES:
        found = marks.figures(results, f"time-{case}", "ours", "ratio")
        if found:
            rows.append([case] + [f"{found[n]:.2f}" if n in found else "–"
                                  for n in instructions(results)])
    return ("Time of ours, mainline's being 1, under QEMU's TCG:\n\n" +
            markdown(["case", *instructions(results)], rows)) if rows else ""


def table(results):
    return "\n".join(filter(None, (hits_table(results), time_table(results), other_table(results))))


def plots(results, folder):
    """Draws what is known; returns the names of the files."""
    import matplotlib  # only here: who measures parts on a machine without it gets the table
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file
    from matplotlib import pyplot
    names = []
    for name, draw in (("hits", draw_hits), ("cases", draw_cases), ("scale", draw_scale)):
        figure, axes = pyplot.subplots(figsize=(9, 4.2))
        if draw(results, axes):
            axes.legend()
            figure.tight_layout()
            for kind in ("svg", "png"):
                metadata = {"Date": None} if kind == "svg" else None
                figure.savefig(os.path.join(folder, f"{name}.{kind}"), metadata=metadata)
                names.append(f"{name}.{kind}")
        pyplot.close(figure)
    return names


def bars(axes, groups, series):
    """{label: {group: value}} side by side."""
    width = 0.8 / len(series)
    for i, (label, values) in enumerate(series.items()):
        at = [g + (i - (len(series) - 1) / 2) * width for g in range(len(groups))]
        axes.bar(at, [values.get(group, 0) for group in groups], width, label=label)
    axes.set_xticks(range(len(groups)), groups, rotation=20)


def draw_hits(results, axes):
    series = {"mainline": marks.figures(results, "empty-task", "mainline"),
              "ours, task context": marks.figures(results, "empty-task", "ours"),
              "ours, interrupt context": marks.figures(results, "empty-interrupt", "ours")}
    if not any(series.values()):
        return False
    bars(axes, instructions(results), series)
    axes.axhline(FLOOR, color="black", linewidth=0.8, linestyle="--", label="a bare trap")
    axes.set_ylabel("instructions a hit")
    axes.set_title("A handler that does nothing, by the probed instruction")
    return True


def draw_cases(results, axes):
    series = {kernel: {case: values["nop"] for case in CASES[1:]
                       if "nop" in (values := marks.figures(results, case, kernel))}
              for kernel in ("mainline", "ours")}
    if not any(series.values()):
        return False
    bars(axes, [case for case in CASES[1:] if any(case in s for s in series.values())], series)
    axes.set_ylabel("instructions a hit")
    axes.set_title("What is done at a hit of a no-op")
    return True


def draw_scale(results, axes):
    drawn = False
    for kernel in ("mainline", "ours"):
        points = sorted((r["threads"], r["ratio"])
                        for r in results.find(case="scale", kernel=kernel) if "ratio" in r)
        if points:
            axes.plot(*zip(*points), marker="o", label=kernel)
            drawn = True
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("threads, on two processors")
    axes.set_ylabel("rate, that of one thread being 1")
    axes.set_title("Hits of one probe")
    return drawn
