# SPDX-License-Identifier: GPL-2.0
"""Circles of imports between the files of kernel/uprobes (the check `imports` of scripts/lint).

A circle of files is a set each of which imports, by its `use crate::` lines, all the others,
directly or not. Such files can only be read together, so each circle must be one of ALLOWED, with
the reason why it is one.
"""
import os
import re

import seriestree as st

FOLDER = os.path.join(st.TOP, "kernel/uprobes")

ALLOWED = {
    # A return breakpoint calls the return probes of its process, which own the breakpoints.
    frozenset({"returns/breakpoints", "returns/process"}),
}


def modules():
    """Of each file its module: returns/walk for kernel/uprobes/returns/walk.rs."""
    found = {}
    for folder, _, names in os.walk(FOLDER):
        for name in names:
            path = os.path.join(folder, name)
            module = os.path.relpath(path, FOLDER).removesuffix(".rs")
            if name.endswith(".rs") and not name.endswith("_test.rs") and module != "uprobes":
                found[module] = path
    return found


def leaves(tree, before=()):
    """The paths that the tree of a `use` line names."""
    for item in re.findall(r"[^,{}]+(?:\{(?:[^{}]|\{[^{}]*\})*\})?", tree):
        name, brace, rest = item.strip().partition("{")
        path = (*before, *[part for part in name.split("::") if part and part != "self"])
        if brace:
            yield from leaves(rest[:-1], path)
        elif name:
            yield path


def imports(text, known):
    text = re.sub(r"//.*", "", text)
    for tree in re.findall(r"^use crate::(.*?);", text, flags=re.M | re.S):
        for path in leaves(re.sub(r"\s+", " ", tree)):
            name = [m for m in ("/".join(path[:n]) for n in range(len(path), 0, -1)) if m in known]
            if name:
                yield name[0]
    for path in re.findall(r"^(?:pub(?:\(crate\))? use|mod) (\w+)", text, flags=re.M):
        yield from (m for m in known if m.startswith("returns/") and m.endswith("/" + path)
                    and "mod " + path in text)


def reachable(graph, start):
    seen, left = set(), [start]
    while left:
        for module in graph[left.pop()] - seen:
            seen.add(module)
            left.append(module)
    return seen


def circles():
    known = modules()
    graph = {}
    for module, path in known.items():
        with open(path, encoding="utf-8") as f:
            graph[module] = set(imports(f.read(), known)) - {module}
    reach = {module: reachable(graph, module) for module in graph}
    return {frozenset(b for b in reach[a] if a in reach[b]) for a in graph if a in reach[a]}


def complaints():
    found = circles()
    return "".join([f"these files import each other: {', '.join(sorted(c))}\n"
                    for c in sorted(found - ALLOWED, key=sorted)] +
                   [f"no such circle any more: {', '.join(sorted(c))}\n"
                    for c in sorted(ALLOWED - found, key=sorted)])
