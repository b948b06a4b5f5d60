# SPDX-License-Identifier: GPL-2.0
"""series/ and the git tree made from it; for scripts/tree and scripts/take-back.

A patch of the series is a folder; series/README.md describes what is in it.
Commits are made with git's plumbing in a temporary index, so that the working
tree and the time stamps in it are touched only where contents change.
"""
import hashlib
import json
import os
import re
import stat
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, "build")
TREE = os.path.join(BUILD, "tree")
SERIES = os.path.join(TOP, "series")
# Folders that are not for the kernel; nor are the files beside them.
TOOLING = {".ci", ".github", "bench", "build", "scripts", "series"}
DIFF = ["diff", "--no-color", "--no-ext-diff", "--no-renames", "--abbrev=12",
        "--src-prefix=a/", "--dst-prefix=b/", "-U3"]
IDENTITY = {"NAME": "uprobes series", "EMAIL": "series@localhost"}
EPOCH = 1767225600  # of the base commit; each patch is a minute later


class Problem(Exception):
    """What the user has to know or mend."""


def git(*args, cwd=TREE, data=None, index=None, check=True, env=None):
    """Runs git and returns its output as bytes (or the completed process)."""
    full = dict(os.environ, GIT_OPTIONAL_LOCKS="0", LC_ALL="C", **(env or {}))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        full.pop(name, None)
    if index:
        full["GIT_INDEX_FILE"] = index
    done = subprocess.run(["git", *args], cwd=cwd, input=data, env=full,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if not check:
        return done
    if done.returncode:
        raise Problem(f"git {' '.join(args[:3])} …: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def text(*args, **kw):
    return git(*args, **kw).decode().strip()


def paths(output):
    return [p for p in output.decode(errors="surrogateescape").split("\0") if p]


def new_files():
    """Files in the working tree that git does not know, whatever .gitignore says (Debian's
    ignores everything); builds go elsewhere."""
    leave_out = ("*.o", "*.cmd", "*.orig", "*.rej", "*~", ".*.sw?", "__pycache__", "tags", "cscope.*")
    return paths(git("ls-files", "-z", "-o", *(f"-x{p}" for p in leave_out)))


def commit(tree, parent, message, number):
    env = {f"GIT_{who}_{key}": value for who in ("AUTHOR", "COMMITTER")
           for key, value in (*IDENTITY.items(), ("DATE", f"{EPOCH + 60 * number} +0000"))}
    parents = ["-p", parent] if parent else []
    return text("commit-tree", tree, *parents, data=message.encode(), env=env)


class Patch:
    def __init__(self, name):
        self.name = name
        self.dir = os.path.join(SERIES, name)
        self.message = self.read("message")
        if self.message is None:
            raise Problem(f"series/{name} has no `message`")
        lines = self.message.split("\n")
        if not lines[0].strip() or (len(lines) > 1 and lines[1].strip()):
            raise Problem(f"series/{name}/message: a subject, an empty line, then the text")
        entries = (self.read("files") or "").split("\n")
        self.entries = [e.strip() for e in entries if e.strip() and not e.startswith("#")]
        self.edits = self.read("edits.diff") or ""
        self.files = []  # filled by assign_files()

    def read(self, name):
        try:
            with open(os.path.join(self.dir, name), encoding="utf-8", newline="") as f:
                return f.read()
        except FileNotFoundError:
            return None

    def edited(self):
        """The kernel's files that the patch edits."""
        return set(re.findall(r"^diff --git a/(\S+) b/", self.edits, re.M))

    def merges_maintainers(self):
        return "MAINTAINERS" in self.entries


def load():
    names = sorted(n for n in os.listdir(SERIES) if re.match(r"\d\d+-", n)
                   and os.path.isdir(os.path.join(SERIES, n)))
    patches = [Patch(n) for n in names]
    assign_files(patches)
    return patches


def our_files():
    """Every file here that is for the kernel, by its path."""
    listed = git("ls-files", "-z", "-co", "--exclude-standard", cwd=TOP)
    return sorted({p for p in paths(listed) if "/" in p and p.split("/")[0] not in TOOLING
                   and os.path.lexists(os.path.join(TOP, p))})


def assign_files(patches):
    """Gives each of our files to the patch that names it most exactly."""
    owner = {}
    for patch in patches:
        for entry in patch.entries:
            if entry in owner:
                raise Problem(f"{entry} is listed by {owner[entry].name} and {patch.name}")
            owner[entry] = patch
    used, homeless = {"MAINTAINERS"}, []
    for path in our_files():
        parts = path.split("/")
        folders = ["/".join(parts[:n]) + "/" for n in range(len(parts) - 1, 0, -1)]
        entry = next((e for e in [path, *folders] if e in owner), None)
        if entry is None:
            homeless.append(path)
        else:
            used.add(entry)
            owner[entry].files.append(path)
    if homeless:
        raise Problem("no patch of the series lists:\n  " + "\n  ".join(homeless))
    for entry, patch in owner.items():
        if entry not in used:
            raise Problem(f"series/{patch.name}/files lists {entry}, and there is no such file")


def entries_of(maintainers):
    """(title, text) of each entry in our MAINTAINERS."""
    blocks = [b.strip("\n") for b in re.split(r"\n\s*\n", maintainers)]
    return [(b.split("\n")[0], b) for b in blocks if re.search(r"^[A-Z]:\t", b, re.M)]


def merge_maintainers(theirs, ours):
    """The kernel's MAINTAINERS with our entries in their alphabetical places."""
    lines = theirs.split("\n")
    for title, block in entries_of(ours):
        starts = [i for i in range(1, len(lines) - 1)
                  if re.match(r"[A-Z]:\t", lines[i + 1]) and lines[i - 1] == ""
                  and lines[i] and not re.match(r"[A-Z]:\s|\s", lines[i])]
        if not starts:
            raise Problem("the kernel's MAINTAINERS has no entries")
        before = [i for i in starts if lines[i].upper() > title.upper()]
        if title in (lines[i] for i in starts):
            raise Problem(f"the kernel's MAINTAINERS already has {title}")
        at = before[0] if before else starts[-1]
        lines[at:at] = block.split("\n") + [""]
    return "\n".join(lines)


def blobs(files):
    """path -> (mode, blob), written to the tree's object store."""
    full = [os.path.join(TOP, p) for p in files]
    result = {}
    plain = [(p, f) for p, f in zip(files, full) if not os.path.islink(f)]
    ids = text("hash-object", "-w", "--no-filters", "--stdin-paths",
               data="".join(f + "\n" for _, f in plain).encode()).split() if plain else []
    for (p, f), blob in zip(plain, ids):
        result[p] = ("100755" if os.stat(f).st_mode & stat.S_IXUSR else "100644", blob)
    for p, f in zip(files, full):
        if os.path.islink(f):
            result[p] = ("120000", text("hash-object", "-w", "--stdin", data=os.readlink(f).encode()))
    return result


def apply_edits(patch, index):
    """Applies edits.diff to the index; says which hunk does not apply, and why."""
    done = git("apply", "--cached", "--whitespace=nowarn", "-", data=patch.edits.encode(),
               index=index, check=False)
    if done.returncode == 0:
        return
    errors = done.stderr.decode(errors="replace").strip()
    message = f"series/{patch.name}/edits.diff does not apply:\n{errors}"
    failed = re.search(r"patch failed: (\S+):(\d+)", errors)
    if failed:
        message += "\n" + hunk_at(patch.edits, failed[1], int(failed[2]))
    raise Problem(message)


def hunk_at(diff, path, line):
    for part in re.split(r"^(?=diff --git )", diff, flags=re.M):
        if f" b/{path}\n" in part.split("\n@@")[0] + "\n":
            for hunk in re.split(r"^(?=@@ )", part, flags=re.M):
                if hunk.startswith(f"@@ -{line},") or hunk.startswith(f"@@ -{line} "):
                    return f"The hunk, of {path}:\n{hunk.rstrip()}"
    return ""


class Assembler:
    """Makes the commits of the series, reusing those that are still right."""

    def __init__(self, base, cache):
        self.base = base
        self.cache = cache    # key of a patch and all before it -> commit
        self.keys = {}
        self.index = os.path.join(TREE, ".git", "index.series")
        self.in_index = None  # the commit that the index holds

    def assemble(self, patches):
        """Returns the commit of each patch."""
        ours = blobs(sorted(p for patch in patches for p in patch.files))
        self.refuse_kernel_files(ours)
        key, parent, commits = self.base, self.base, []
        for number, patch in enumerate(patches, 1):
            maintainers = ""
            if patch.merges_maintainers():
                with open(os.path.join(TOP, "MAINTAINERS"), encoding="utf-8") as f:
                    maintainers = f.read()
            mine = {p: ours[p] for p in patch.files}
            key = hashlib.sha1(repr((key, number, patch.message, patch.edits, maintainers,
                                     sorted(mine.items()))).encode()).hexdigest()
            made = self.cache.get(key)
            if not made:
                made = self.make(patch, parent, number, mine, maintainers)
            self.keys[key] = parent = made
            commits.append(made)
        return commits

    def refuse_kernel_files(self, ours):
        if not ours:
            return
        there = paths(git("ls-tree", "-z", "--name-only", "--full-tree", "-r", self.base, "--", *ours))
        if there:
            raise Problem("the kernel already has these files; edits to them belong into an "
                          "edits.diff:\n  " + "\n  ".join(there))

    def make(self, patch, parent, number, mine, maintainers):
        if self.in_index != parent:
            git("read-tree", parent, index=self.index)
        self.in_index = None
        if patch.edits.strip():
            apply_edits(patch, self.index)
        if maintainers:
            theirs = git("cat-file", "blob", f"{parent}:MAINTAINERS").decode()
            merged = merge_maintainers(theirs, maintainers)
            blob = text("hash-object", "-w", "--stdin", data=merged.encode())
            mine = dict(mine, MAINTAINERS=("100644", blob))
        info = "".join(f"{mode} {blob}\t{path}\0" for path, (mode, blob) in mine.items())
        git("update-index", "--add", "-z", "--index-info", data=info.encode(), index=self.index)
        tree = text("write-tree", index=self.index)
        if tree == text("rev-parse", f"{parent}^{{tree}}"):
            raise Problem(f"series/{patch.name} changes nothing")
        self.in_index = commit(tree, parent, patch.message.rstrip("\n") + "\n", number)
        return self.in_index


def cached_commits():
    """Key of a patch and all before it -> commit, of the last assembly."""
    try:
        with open(os.path.join(TREE, ".git", "series.json"), encoding="utf-8") as f:
            return json.load(f)
    except (FileNotFoundError, ValueError):
        return {}


def keep_commits(assembler):
    with open(os.path.join(TREE, ".git", "series.json"), "w", encoding="utf-8") as f:
        json.dump(assembler.keys, f)


def run(main):
    """Runs main() and shows a Problem as one."""
    try:
        sys.exit(main())
    except Problem as problem:
        print(f"{os.path.basename(sys.argv[0])}: {problem}", file=sys.stderr)
        sys.exit(1)
