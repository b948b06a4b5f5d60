# SPDX-License-Identifier: GPL-2.0
"""The marks that the figures are to meet."""

# A count that differs by more between boots is not given.
REPRODUCED = 0.01

# Instructions a hit, at most, whatever the probed instruction.
AT_MOST = {"empty-interrupt": 300, "empty-task": 340, "tracefs-noarg": 650}
AMONG_MANY = 1.05  # as against one among one
TWO_PROCESSORS = 1.9  # the rate of one, at least; twice would be without any cost
OTHERS = 1.01  # as against the kernel without the series


def figures(results, case, kernel, unit="instructions", **more):
    """{instruction: figure} of those that are known."""
    return {r["instruction"]: r[unit]
            for r in results.find(case=case, kernel=kernel, **more) if unit in r}


def judge(results):
    """Yields, for each mark that something is known about, whether it is met, and in words."""
    for case, limit in AT_MOST.items():
        found = figures(results, case, "ours")
        if found:
            over = {name: value for name, value in found.items() if value > limit}
            most = max(found.values())
            rest = "".join(f", {name} {value:.0f}" for name, value in over.items())
            yield not over, f"{case}: at most {limit}; found up to {most:.0f}{rest and ': over it' + rest}"
    mainline = figures(results, "entry-return", "mainline")
    for case in ("entry-return", "entry-return-sized"):
        found = figures(results, case, "ours")
        both = [name for name in found if name in mainline]
        if both:
            worst = max(found[name] / mainline[name] for name in both)
            yield worst <= 0.5, f"{case}: half of mainline's; found up to {worst:.2f} of it"
    one = figures(results, "among", "ours", breakpoints=1)
    many = figures(results, "among", "ours", breakpoints=100000)
    if one and many:
        ratio = many["nop"] / one["nop"]
        yield ratio <= AMONG_MANY, f"one hit among 100,000: within 5 % of among 1; found {ratio:.3f}"
    two = figures(results, "scale", "ours", "ratio", threads=2, cpus=2)
    if two:
        yield two["nop"] >= TWO_PROCESSORS, (
            f"two processors: {TWO_PROCESSORS} times the rate of one; found {two['nop']:.2f}")
    for record in results.find(kernel="none"):
        if record["case"].startswith("others-") and record.get("instructions"):
            ours = figures(results, record["case"], "ours")
            if ours:
                ratio = ours["-"] / record["instructions"]
                yield ratio <= OTHERS, f"{record['case']}: within 1 %; found {ratio - 1:+.2%}"
