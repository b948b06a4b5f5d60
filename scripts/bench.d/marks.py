# SPDX-License-Identifier: GPL-2.0
"""The marks that the figures are to meet.

A mark whose figures have not been had, or did not reproduce, is not met: what is not
known to be good is not taken for it.
"""

# Instructions a hit, at most, whatever the probed instruction.
AT_MOST = {"empty-interrupt": 300, "empty-task": 340, "tracefs-noarg": 760}
RETURNED = 0.5  # of mainline's, at most, for entry and return together
AMONG_MANY = 1.05  # as against one among one
TWO_PROCESSORS = 1.9  # the rate of one, at least; twice would be without any cost
OTHERS = 1.01  # as against the kernel without the series


def figures(results, case, kernel, unit="instructions", **more):
    """{instruction: figure} of those that are known."""
    return {r["instruction"]: r[unit]
            for r in results.find(case=case, kernel=kernel, **more) if unit in r}


def unknown(results, case, kernel="ours"):
    """The instructions that have been tried without a figure as the result."""
    return [r["instruction"] for r in results.find(case=case, kernel=kernel)
            if "instructions" not in r]


def listed(words, names):
    return f"; {words}: {', '.join(names)}" if names else ""


def mark(text, found):
    """Of (whether it is met, what was found), or None if that is not known."""
    met, what = found or (False, "not known")
    return met, f"{text}; found {what}"


def at_most(results):
    for case, limit in AT_MOST.items():
        found = figures(results, case, "ours")
        over = [f"{name} {value:.0f}" for name, value in found.items() if value > limit]
        without = unknown(results, case)
        yield mark(f"{case}: at most {limit}", found and (
            not over and not without,
            f"up to {max(found.values()):.0f}" + listed("over it", over) +
            listed("without a figure", without)))


def returns(results):
    mainline = figures(results, "entry-return", "mainline")
    for case in ("entry-return", "entry-return-sized"):
        ours = figures(results, case, "ours")
        share = {name: ours[name] / value for name, value in mainline.items() if name in ours}
        without = [name for name in mainline if name not in ours]
        yield mark(f"{case}: at most half of mainline's", share and (
            max(share.values()) <= RETURNED and not without,
            f"up to {max(share.values()):.2f} of it" + listed("without a figure", without)))


def hits(results):
    yield from at_most(results)
    yield from returns(results)


def among(results):
    one, many = (figures(results, "among", "ours", breakpoints=n).get("nop")
                 for n in (1, 100000))
    ratio = many / one if one and many else None
    yield mark("one hit among 100,000: within 5 % of among 1",
               ratio and (ratio <= AMONG_MANY, f"{ratio:.3f} of it"))


def scale(results):
    two = figures(results, "scale", "ours", "ratio", threads=2, cpus=2).get("nop")
    apart = figures(results, "apart", "ours", "ratio", processes=2).get("nop")
    without = f"; of two processes that share no probe {apart:.2f}" if apart else ""
    yield mark(f"two processors: {TWO_PROCESSORS} times the rate of one",
               two and (two >= TWO_PROCESSORS, f"{two:.2f}{without}"))


def costs(results):
    found = [r for r in results.find(kernel="none") if r["case"].startswith("others-")]
    if not found:
        yield mark("others: within 1 %", None)
    for record in found:
        ours = figures(results, record["case"], "ours").get(record["instruction"])
        none = record.get("instructions")
        ratio = ours / none if ours and none else None
        yield mark(f"{record['case']}: within 1 %",
                   ratio and (ratio <= OTHERS, f"{ratio - 1:+.2%}"))


OF_PARTS = {"hits": hits, "among": among, "scale": scale, "costs": costs}


def judge(results, parts):
    """Yields, for each mark of what has been measured, whether it is met, and in words."""
    for part in parts:
        if part in OF_PARTS:
            yield from OF_PARTS[part](results)
