#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of the extraction of prose (the check `language` of scripts/lint)."""
import sys
import unittest

sys.dont_write_bytecode = True
import language
import prose


def said(path, source):
    return [word for block in prose.blocks(path, source) for _, word in prose.words(block)]


def at(path, source):
    return [number for block in prose.blocks(path, source) for number, _ in prose.words(block)]


class Comments(unittest.TestCase):
    def test_rust(self):
        source = ('// SPDX-License-Identifier: GPL-2.0\n//! One\n\n/// two `three\n/// four` five\n'
                  'let a = "// six"; // seven\nlet b = (\'"\', r#"" // eight"#); /* nine\n * ten */\n'
                  "fn f<'a>(x: &'a str) {} // eleven\n")
        self.assertEqual(said("a.rs", source), ["one", "two", "five", "seven", "nine", "ten", "eleven"])
        self.assertEqual(at("a.rs", source), [2, 4, 5, 6, 7, 8, 9])

    def test_fences(self):
        source = "/// One\n/// ```\n/// two\n/// ```\n/// three\nfn f() {}\n/// four\n"
        self.assertEqual(said("a.rs", source), ["one", "three", "four"])

    def test_c(self):
        source = '/* One\n * two */\nchar *s = "/* three */"; // four\n'
        self.assertEqual(said("a.c", source), ["one", "two", "four"])

    def test_words(self):
        source = "// Who's (who) f(x) a_b a::b g() x86 [`what`] those, who\n"
        self.assertEqual(said("a.c", source), ["who", "who", "those", "who"])


class Documents(unittest.TestCase):
    def test_rst(self):
        source = ("One::\n\n  two\n\n  three\n\nfour\n\n- five::\n\n    six\n\n  seven\n\n"
                  ".. note::\n\n   eight\n\n.. code-block:: c\n\n   nine\n")
        self.assertEqual(said("a.rst", source), ["one", "four", "five", "seven", "note", "eight"])

    def test_kconfig(self):
        source = "config A\n\tbool \"one\"\n\thelp\n\t  Two\n\n\t  three\n\nconfig B\n\tbool\n"
        self.assertEqual(said("kernel/Kconfig", source), ["two", "three"])

    def test_kinds(self):
        for path, kind in (("series/01-a/message", "documents"), ("series/cover-letter", "documents"),
                           ("README.md", "documents"), ("series/01-a/files", None), ("a.py", None),
                           ("mm/a.rs", "comments"), ("include/a.h", "comments")):
            self.assertEqual(prose.kind_of(path), kind, path)

    def test_edits(self):
        diff = ("diff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n@@ -1,2 +1,3 @@ f\n"
                "  * one\n+ * two who\n- * three\n  */\n+int i; /* four */\n")
        measured = language.Measured()
        for path, part, added in prose.hunks(diff):
            measured.add(path, part, "e.diff", added)
        self.assertEqual(measured.total["comments"], 3)
        self.assertEqual(measured.lines, [("comments", "who", "e.diff:6: who: * two who")])


class Rules(unittest.TestCase):
    def formulas(self, text):
        block, = prose.blocks("a.rs", "".join(f"// {line}\n" for line in text.split("\n")))
        return [number for number, _ in language.formulas(block)]

    def test_formulas(self):
        for text in ("By the requirement on the\ncaller.", "As above.", "See above", "As in `get`.",
                     "By this function's safety requirements.", "As the caller promises.",
                     "By the safety requirements of this function.", "By the type invariants of `A`.",
                     "By the safety requirements. CAST: `A` is transparent."):
            self.assertEqual(self.formulas("SAFETY: " + text), [1], text)

    def test_facts(self):
        for text in ("By the type invariants the lock is held.", "As above; `a` is not used any more.",
                     "`vma` stays valid because `mmap_lock` is held for writing by `mmap`."):
            self.assertEqual(self.formulas("SAFETY: " + text), [], text)

    def test_titles(self):
        for path, source, found in (
                ("a.rs", "// SPDX\n\n//! What.\n", (3, "What.")),
                ("a.c", "// SPDX\n/*\n * Who\n */\n", (3, "Who")),
                ("a.h", "/* SPDX */\n/* Who */\n", (2, "Who */")),
                ("a.h", "/* SPDX */\n#define A\n/* Who */\n", (0, ""))):
            self.assertEqual(language.title(path, source), found)
        for text, bad in (("How it is.", True), ("Howard.", False), ("The same.", True),
                          ("The lock.", False)):
            self.assertEqual(bool(language.TITLES.match(text)), bad, text)


if __name__ == "__main__":
    unittest.main()
