# SPDX-License-Identifier: GPL-2.0
"""Extraction of prose from comments, documents and diffs (for scripts/language.py)."""
import os
import re

# Strings and characters are matched too, so that slashes within them start no comment.
RUST = re.compile(r'//[^\n]*|/\*.*?\*/|\bb?r(#*)".*?"\1|"(?:\\.|[^"\\])*"' r"|'(?:\\[^\n']+|[^'\\\n])'",
                  re.S)
C = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"' r"|'(?:\\.|[^'\\\n])+'", re.S)
# Directives whose content is prose; that of any other is not.
PROSE = re.compile(r"\.\. (?:note|warning|caution|important|tip|hint|attention|danger)::")


def comments(source, syntax):
    """Yields the comments of SOURCE as lists of (line number, text); a run of // lines is one."""
    block, last, number, at = [], None, 1, 0
    for match in syntax.finditer(source):
        found = match[0]
        if not found.startswith(("//", "/*")):
            continue
        number += source.count("\n", at, match.start())
        at = match.start()
        if found.startswith("/*"):
            if block:
                yield block
            block, last = [], None
            lines = re.sub(r"\*/$", "", found[2:]).split("\n")
            yield [(number + n, re.sub(r"^\s*\*+ ?", "", line).rstrip())
                   for n, line in enumerate(lines)]
            continue
        marker = re.match(r"//[/!]?", found)[0]
        alone = not source[source.rfind("\n", 0, at) + 1:at].strip()
        if not (alone and last == (number - 1, marker)):
            if block:
                yield block
            block = []
        block.append((number, found[len(marker):].removeprefix(" ")))
        last = (number, marker) if alone else None
    if block:
        yield block


def indent(line):
    return len(line) - len(line.lstrip())


def without_fences(lines):
    """Leaves out code between ``` fences."""
    fenced, kept = False, []
    for number, line in lines:
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced:
            kept.append((number, line))
    return kept


def without_literals(lines):
    """Leaves out the indented paragraphs after `::`, and those of directives for code and tables."""
    literal, kept = None, []
    for number, line in lines:
        if literal is not None and line.strip() and indent(line) <= literal:
            literal = None
        if literal is not None:
            continue
        prose = PROSE.match(line.strip())
        directive = re.match(r"\s*\.\. [\w-]+::", line) and not prose
        if not directive:
            kept.append((number, line))
        if directive or line.rstrip().endswith("::") and not prose:
            # The text of an item of a list starts behind its bullet.
            literal = len(re.match(r"\s*(?:(?:[-*+]|\w{1,2}[.)])\s+)?", line)[0])
    return kept


def help_texts(lines):
    """The help texts of a Kconfig file: a text ends at a line that is indented less."""
    width, kept = None, []
    for number, line in lines:
        line = line.expandtabs()
        if width == -1 and line.strip():
            width = indent(line)
        if width is not None and line.strip() and indent(line) < width:
            width = None
        if width is not None:
            kept.append((number, line))
        elif line.strip() == "help":
            width = -1
    return kept


def kind_of(path):
    """`comments` or `documents`; None: PATH has no prose that is measured."""
    name = os.path.basename(path)
    if name.endswith((".rs", ".c", ".h", ".S", ".cc")):
        return "comments"
    if name.endswith(".rst") or name.startswith("Kconfig") \
            or path in ("README.md", "series/README.md") \
            or re.fullmatch(r"series/(\d\d-[^/]+/message|cover-letter[^/]*)", path):
        return "documents"
    return None


def blocks(path, source):
    """The prose of a file, as lists of (line number, line)."""
    name = os.path.basename(path)
    if kind_of(path) == "comments":
        found = comments(source, RUST if name.endswith(".rs") else C)
        return [without_fences(block) for block in found]
    lines = list(enumerate(source.split("\n"), 1))
    if name.startswith("Kconfig"):
        return [help_texts(lines)]
    return [without_fences(lines) if name.endswith(".md") else without_literals(lines)]


def words(block):
    """Yields (line number, word), without code and names."""
    prose = "\n".join("" if "SPDX-License-Identifier" in line else line for _, line in block)
    # Inline code may be broken over lines, but not over paragraphs.
    prose = re.sub(r"(`+)(?:[^`\n]|\n(?!\s*\n))+\1",
                   lambda code: "_" + "\n" * code[0].count("\n"), prose)
    for (number, _), line in zip(block, prose.split("\n")):
        for token in line.split():
            # A parenthesis around words is not one of a call.
            token = token.lstrip("([{\"'*")
            if "(" not in token:
                token = token.rstrip(".,;:!?)]}\"'*")
            if not re.search(r"[_\d()<>=/@#$&|\\{}]|::|\w\.\w", token):
                for word in re.findall(r"[A-Za-z]+", re.sub(r"['’][A-Za-z]*", "", token)):
                    yield number, word.lower()


def hunks(diff):
    """Yields (path, source, added lines) of each hunk; lines of SOURCE have their numbers in DIFF."""
    path, source, added, lines = None, None, set(), diff.split("\n")
    for number, line in enumerate([*lines, "diff --git"], 1):
        if line.startswith(("diff --git", "@@ ")):
            if source is not None:
                text = "\n".join(source)
                # A hunk may start within a comment.
                if "*/" in text.split("/*")[0]:
                    text = "/*" + text
                yield path, text, added
            source, added = None, set()
            if line.startswith("@@ "):
                source = [""] * number
            elif number <= len(lines):
                path = re.search(r" b/(\S+)$", line)[1]
        elif source is not None:
            source.append(line[1:] if line[:1] in ("+", " ") else "")
            if line.startswith("+"):
                added.add(number)
