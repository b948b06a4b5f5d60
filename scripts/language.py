#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""The English of comments and documents (the check `language` of scripts/lint).

    scripts/language.py [PATH...]      these files and folders only, with every line to rewrite

Counts some words that the kernel's own Rust hardly uses, per 10,000 words, and compares the rates
with the base's, which are measured each time. Comments are compared with comments, and documents
with documents. SAFETY comments without a fact, and titles that are clauses, fail by themselves.
"""
import os
import re
import sys
from collections import Counter

sys.dont_write_bytecode = True
import seriestree as st
from prose import blocks, hunks, kind_of, words
from seriestree import Problem, git, paths

WORDS = {
    "what": "what", "who": "who whom", "whose": "whose", "those": "those",
    "nobody": "nobody somebody anybody", "told": "told tell tells",
    "noticed": "noticed notice notices", "meanwhile": "meanwhile",
}
WORD_OF = {form: word for word, forms in WORDS.items() for form in forms.split()}
FACTOR = 2   # a word fails above this multiple of the base's rate,
FLOOR = 1.0  # or above this rate where the base hardly uses it
BASE = {
    "comments": ["rust/kernel", "drivers/android/binder", "drivers/gpu/nova-core"],
    "documents": ["Documentation/trace"],
}

# SAFETY comments that only say where a fact comes from. The whole text must match.
CODE = r"(?:`[^`]+`|\[`[^`]+`\])"
PARTY = rf"(?:(?:the |this |its |our )?(?:caller|function|method|trait|type|field)|{CODE})"
SOURCE = (rf"(?:the |this |its |our )?(?:{PARTY}(?:'s)? )?(?:safety |type )?"
          r"(?:requirements?|preconditions?|contracts?|invariants?)"
          rf"(?: (?:on|of|for) {PARTY})?(?:'s (?:type|trait))?")
FORMULAS = [re.compile(formula, re.I) for formula in (
    r"(?:the )?(?:same )?(?:as|see|like) (?:above|before|below)",
    rf"(?:the )?(?:same )?(?:as|see|like) (?:in |for |with |at )?{CODE}(?: above| below)?",
    rf"(?:by|see|as for|from|due to|per) {SOURCE}(?:,? and (?:by |of )?(?:{SOURCE}|{CODE}))*",
    r"(?:as )?(?:the )?callers? (?:promises?|guarantees?|ensures?)(?: this| that| it| so)?",
    rf"(?:as )?(?:required|promised|guaranteed|ensured) by (?:{PARTY}|{SOURCE})",
)]
TITLES = re.compile(r"(?:What|Which|Who|Whom|Whose|Why|When|Where|Whether|How|That|Those|It|Its|They"
                    r"|Their|The same)\b")


def formulas(block):
    """Yields (line number, text) of SAFETY comments that name no fact."""
    for at, (number, line) in enumerate(block):
        if line.startswith("SAFETY:"):
            rest = [line[len("SAFETY:"):]]
            for _, more in block[at + 1:]:
                if not more.strip() or re.match(r"[A-Z]{3,}:", more):
                    break
                rest.append(more)
            # What a CAST or an INVARIANT adds is not about safety.
            said = re.split(r"\b[A-Z]{3,}:", " ".join(" ".join(rest).split()))[0].strip().rstrip(".")
            if any(formula.fullmatch(said) for formula in FORMULAS):
                yield number, said


def title(path, source):
    """The (line number, text) of the first line that a file says of itself."""
    if path.endswith(".rs"):
        match = re.search(r"^//! *(\S.*)", source, re.M)
    else:
        spdx = r"(?://[^\n]*|/\*[^\n]*SPDX[^\n]*\*/)\s*"
        match = re.match(rf"\s*(?:{spdx})*/\*(?![^\n]*SPDX)[\s*]*([^\s*/][^\n]*)", source)
    return (source.count("\n", 0, match.start(1)) + 1, match[1]) if match else (0, "")


class Measured:
    """Words, uses of those in WORDS, and lines that fail by themselves."""

    def __init__(self):
        self.total, self.uses = Counter(), Counter()
        self.lines = []     # (kind, word, "path:line: word: text")
        self.formulas, self.titles = [], []

    def add(self, path, source, edits=None, added=()):
        """EDITS is the diff, if SOURCE is what it has of PATH, of which the lines ADDED are ours."""
        kind, texts = kind_of(path), source.split("\n")

        def where(number, word):
            return f"{edits or path}:{number}: {word}: {texts[number - 1].strip()}"

        for block in blocks(path, source):
            for number, word in words(block):
                if not edits or number in added:
                    self.total[kind] += 1
                    if word in WORD_OF:
                        self.uses[kind, WORD_OF[word]] += 1
                        self.lines.append((kind, WORD_OF[word], where(number, word)))
            if path.endswith(".rs"):
                self.formulas += [where(n, "SAFETY") for n, _ in formulas(block)
                                  if not edits or n in added]
        if kind == "comments" and not edits:
            number, first = title(path, source)
            if TITLES.match(first):
                self.titles.append(where(number, "title"))

    def rate(self, kind, word):
        return 1e4 * self.uses[kind, word] / self.total[kind] if self.total[kind] else 0.0


def base():
    """The base's own files, at its commit: the working tree has the series applied."""
    folders = [folder for listed in BASE.values() for folder in listed]
    listed = git("ls-tree", "-r", "-z", "--name-only", "refs/tags/base", "--", *folders)
    names = [p for p in paths(listed)
             if kind_of(p) == "comments" and not p.startswith("Documentation/")
             or re.fullmatch(r"Documentation/trace/[^/]+\.rst", p)]
    out = git("cat-file", "--batch", data="".join(f"refs/tags/base:{p}\n" for p in names).encode())
    measured, at = Measured(), 0
    for name in names:
        start = out.index(b"\n", at) + 1
        end = start + int(out[at:start].split()[2])
        measured.add(name, out[start:end].decode(errors="replace"))
        at = end + 1
    return measured


def files(chosen):
    listed = paths(git("ls-files", "-z", "-co", "--exclude-standard", cwd=st.TOP))
    found = [p for p in sorted(listed) if p.split("/")[0] not in st.TOOLING - {"series"}
             and os.path.isfile(os.path.join(st.TOP, p))
             and (not chosen or any(c == "." or p == c or p.startswith(c + "/") for c in chosen))]
    if not found:
        raise Problem(f"no files of ours: {' '.join(chosen)}")
    return found


def measure(chosen=()):
    measured = Measured()
    for path in files(chosen):
        edits = re.fullmatch(r"series/\d\d-[^/]+/edits\.diff", path)
        if edits or kind_of(path):
            with open(os.path.join(st.TOP, path), encoding="utf-8") as f:
                source = f.read()
            if edits:
                for patched, part, added in hunks(source):
                    if kind_of(patched):
                        measured.add(patched, part, path, added)
            else:
                measured.add(path, source)
    return measured


def verdicts(ours, theirs):
    """Yields (kind, word, our rate, the base's rate, limit)."""
    for kind in BASE:
        for word in WORDS:
            rate = theirs.rate(kind, word)
            yield kind, word, ours.rate(kind, word), rate, max(FACTOR * rate, FLOOR)


def complaints():
    """For scripts/lint: a line for each word and rule."""
    ours = measure()
    found = [f"language: {kind}: `{word}` {rate:.1f} per 10,000 words, the base has {there:.1f}, "
             f"limit {limit:.1f}; scripts/language.py shows the lines"
             for kind, word, rate, there, limit in verdicts(ours, base()) if rate > limit]
    for text, lines in (("SAFETY comments that name no fact", ours.formulas),
                        ("titles that are a clause or a pronoun", ours.titles)):
        if lines:
            found.append(f"language: {text}: {len(lines)}; scripts/language.py shows them")
    return "\n".join(found)


def main():
    chosen = [os.path.relpath(os.path.abspath(p), st.TOP) for p in sys.argv[1:]]
    ours, theirs = measure(chosen), base()
    listed, failed = list(verdicts(ours, theirs)), set()
    for kind, word, rate, _, limit in listed:
        if rate > limit:
            failed.add((kind, word))
    # The table comes last, as the lines may be thousands.
    for kind, word, line in ours.lines:
        if (kind, word) in failed:
            print(line)
    for line in [*ours.formulas, *ours.titles]:
        print(line)
    for kind in BASE:
        print(f"\n{kind}: {ours.total[kind]} words, the base has {theirs.total[kind]}; per 10,000 words:"
              f"\n{'':14}{'uses':>6}{'rate':>8}{'base':>8}{'limit':>8}")
        for of, word, rate, there, limit in listed:
            if of == kind:
                print(f"  {word:12}{ours.uses[kind, word]:6}{rate:8.1f}{there:8.1f}{limit:8.1f}"
                      f"{'  FAILS' if rate > limit else ''}")
    print(f"\nSAFETY comments that name no fact: {len(ours.formulas)}"
          f"\ntitles that are a clause or a pronoun: {len(ours.titles)}")
    return 1 if failed or ours.formulas or ours.titles else 0


if __name__ == "__main__":
    st.run(main)
