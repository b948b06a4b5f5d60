# SPDX-License-Identifier: GPL-2.0
"""Configurations that scripts/lint checks without building a kernel (its check `matrix`).

Each row of ROWS has a folder in build/matrix, with a configuration of its own and links to
everything else that the build of the default kernel generates. With the commands of that
build, clang checks the syntax of C files and rustc makes the metadata of crates, as far as
Kbuild builds them in the row's configuration: the C files that the series adds, edits or
that include its headers; the bindings, the kernel crate and the crates of the series. The
build treats warnings as errors, and so does this check in files of the series.
"""
import os
import re
import shlex
import subprocess
from multiprocessing.pool import ThreadPool

import seriestree as st
from seriestree import git, paths

OUT = os.path.join(st.BUILD, "matrix")
BUILT = os.path.join(st.BUILD, "o-default")
HEADERS = r"<linux/(uprobes|utrace|utrace_hooks|ubp|ubp_types|private_copy|resume_user_mode)\.h>"
KBUILT = ("arch/x86", "fs", "io_uring", "kernel", "lib", "mm", "samples")  # searched for C files

# A row has a value of each factor:
#   probes   no user-space probes, mainline's (`c`), ours without the control file (`api`) or
#            with it (`rust`); with `none`, and without utrace, there is no Rust
#   utrace   UTRACE_SYSCALL_EVENTS, which brings UTRACE without our probes
#   others   the symbol in SYMBOLS
# `make check` builds the two kernels. ROWS is chosen such that, over rows and kernels, each
# value of a factor occurs beside each value of `probes`, and KUNIT=y and =m beside each set
# of crates; uncovered() proves it. The whole product would add nothing, because a condition
# in the series names at most one symbol besides those of `probes` and `utrace`.
FACTORS = ("probes", "utrace", "kunit", "modules", "rt", "smp", "ia32", "jump", "bpf", "shstk")
KERNELS = {
    "default": ("rust", "y", "n", "y", "n", "y", "y", "n", "y", "y"),
    "debug":   ("rust", "y", "y", "y", "n", "y", "y", "y", "y", "y"),
}
ROWS = {
    "none":    ("none", "n", "n", "n", "n", "n", "n", "n", "y", "n"),
    "c":       ("c",    "n", "n", "n", "y", "y", "n", "y", "n", "y"),
    "utrace":  ("none", "y", "m", "y", "y", "y", "y", "y", "n", "y"),
    "both":    ("c",    "y", "y", "y", "n", "n", "y", "n", "y", "n"),
    "api":     ("api",  "n", "m", "y", "n", "n", "y", "y", "y", "n"),
    "api-rt":  ("api",  "y", "y", "n", "y", "y", "n", "n", "n", "y"),
    "rust-rt": ("rust", "n", "m", "y", "y", "n", "y", "n", "n", "n"),
    "rust-up": ("rust", "y", "y", "n", "n", "n", "n", "y", "y", "n"),
}
SYMBOLS = {
    "utrace": "UTRACE_SYSCALL_EVENTS", "kunit": "KUNIT", "modules": "MODULES", "rt": "PREEMPT_RT",
    "smp": "SMP", "ia32": "IA32_EMULATION", "jump": "JUMP_LABEL", "bpf": "BPF_SYSCALL",
    "shstk": "X86_USER_SHADOW_STACK",
}
PROBES = {
    "none": {"UPROBES_C": "y", "UPROBE_EVENTS": "n"},
    "c": {"UPROBES_C": "y", "UPROBE_EVENTS": "y"},
    "api": {"UPROBES_RUST": "y", "UPROBE_EVENTS": "n"},
    "rust": {"UPROBES_RUST": "y", "UPROBE_EVENTS": "y"},
}
# What a row makes itself: all that its configuration decides.
OWN = ("autoconf.h", "rustc_cfg", "bindings", "kernel", "libbindings.rmeta", "libkernel.rmeta")
# Rust's inline assembly, which make takes from C macros.
ASSEMBLY = {"generated_arch_static_branch_asm": "JUMP_LABEL", "generated_arch_warn_asm": "BUG",
            "generated_arch_reachable_asm": "BUG"}


def crates(row):
    """Returns the set of crates that a row has; its name is a value of `probes`."""
    probes, utrace = row[0], row[1]
    return probes if probes in ("api", "rust") else "utrace" if utrace == "y" else None


def uncovered():
    """Returns the pairs of values that no row has."""
    rows = [*ROWS.values(), *KERNELS.values()]
    missing = []
    for number, factor in enumerate(FACTORS[1:], 1):
        by = crates if factor == "kunit" else lambda row: row[0]
        for first in {by(row) for row in rows} - {None}:
            values = {"y", "m"} if factor == "kunit" else {"y", "n"}
            seen = {row[number] for row in rows if by(row) == first}
            missing += [f"no row has {first} with {factor}={v}" for v in sorted(values - seen)]
    return missing


def wanted(row):
    """Returns a value by symbol, on top of the default kernel's configuration."""
    values = dict(zip(FACTORS, row))
    want = {**PROBES[values["probes"]], "RUST": "y" if crates(row) or row[0] == "c" else "n"}
    want.update((symbol, values[factor]) for factor, symbol in SYMBOLS.items())
    if values["kunit"] != "n":
        debug = content(os.path.join(st.TOP, "scripts/config/debug.config"))
        want.update((test, "y") for test in re.findall(r"^CONFIG_(\w+_KUNIT_TESTS?)=y", debug, re.M))
    if values["modules"] == "n":
        want.update((m, "y") for m in ("UBP_TEST", "UPROBES_TEST", "UTRACE_TEST"))
    return want


def content(path):
    """Returns what is in a file, or nothing if there is none."""
    try:
        with open(path, encoding="utf-8") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def run(*command, cwd=st.TOP, **kw):
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False, **kw)
    return done.returncode, done.stdout


class Row:
    def __init__(self, name):
        self.name = name
        self.want = wanted(ROWS[name])
        self.dir = os.path.join(OUT, name)
        self.config = {}
        self.built = {}   # folder -> objects that Kbuild would build there

    def configure(self, base, stamp):
        """Makes auto.conf, autoconf.h, rustc_cfg and the rest of the folder; returns complaints."""
        os.makedirs(self.dir, exist_ok=True)
        if "UPROBES_C" in self.want:
            base = base.replace("CONFIG_UPROBES_RUST=y\n", "")
        fragment = base + "".join(f"CONFIG_{s}={v}\n" for s, v in self.want.items())
        stamp_path = os.path.join(self.dir, "stamp")
        if content(stamp_path) != stamp + fragment:
            write(os.path.join(self.dir, "wanted.config"), fragment)
            code, out = run("bash", "-c", '. scripts/lib.sh; for target in allnoconfig syncconfig; do '
                            'KCONFIG_ALLCONFIG=$0/wanted.config kernel_make "$0" $target || exit; done',
                            self.dir)
            if code or "unmet direct dependencies" in out:
                return f"{self.name}: Kconfig:\n{out[-2000:]}\n"
            write(stamp_path, stamp + fragment)
        auto_conf = content(os.path.join(self.dir, "include/config/auto.conf"))
        self.config = dict(re.findall(r"^CONFIG_(\w+)=(.*)$", auto_conf, re.M))
        self.link()
        self.make_bounds()
        self.make_assembly()
        return "".join(f"{self.name}: {symbol}={self.config.get(symbol, 'n')}, not {value}: mend the row\n"
                       for symbol, value in self.want.items()
                       if not symbol.endswith(("_TEST", "_TESTS"))
                       and self.config.get(symbol, "n") != value)

    def link(self):
        """Links to everything generated that does not depend on the configuration."""
        for folder in ("include/generated", "arch/x86/include/generated", "rust", "scripts"):
            here, there = os.path.join(self.dir, folder), os.path.join(BUILT, folder)
            if os.path.islink(here):
                continue
            os.makedirs(here, exist_ok=True)
            for name in set(os.listdir(there)) - set(OWN):
                if not os.path.lexists(os.path.join(here, name)):
                    os.symlink(os.path.join(there, name), os.path.join(here, name))

    def make_bounds(self):
        """Makes bounds.h: sizes that #if compares."""
        target = os.path.join(self.dir, "include/generated/bounds.h")
        if os.path.islink(target):
            os.unlink(target)
        write(target, "/* kernel/bounds.c itself needs none. */\n")
        words = shlex.split(saved_command("kernel/.bounds.s.cmd"))
        words = [w for w in words if not w.startswith("-Wp,-M")]
        words[words.index("-o") + 1] = "-"
        _, out = run(*words, cwd=self.dir)
        found = re.findall(r"->(\w+) \$?(\d+)", out)
        write(target, "".join(f"#define {name} {value}\n" for name, value in found))

    def make_assembly(self):
        """Makes ASSEMBLY, each as the default kernel makes that of WARN()."""
        os.makedirs(os.path.join(self.dir, "rust/kernel"), exist_ok=True)
        command = content(os.path.join(BUILT, "rust/kernel/.generated_arch_warn_asm.rs.cmd"))
        command = command.split("\n")[0].split(":=", 1)[1].replace("$(pound)", "#").replace("$$", "$")
        for name, symbol in ASSEMBLY.items():
            if "RUST" in self.config and symbol in self.config:
                run("bash", "-c", command.replace("generated_arch_warn_asm", name), cwd=self.dir)

    def objects(self, folder):
        """Returns the objects and folders that the Makefile of a folder asks for."""
        if folder not in self.built:
            kbuild = next(n for n in ("Kbuild", "Makefile")
                          if os.path.exists(os.path.join(st.TREE, folder, n)))
            show = (f"include include/config/auto.conf\nobj := {folder}\nsrctree := {st.TREE}\n"
                    f"src := {st.TREE}/{folder}\ninclude {st.TREE}/{folder}/{kbuild}\n"
                    "$(foreach o,$(obj-y) $(obj-m) $(lib-y),"
                    "$(info object $o $($(o:.o=-objs)) $($(o:.o=-y)) $($(o:.o=-m))))\nmatrix: ;\n")
            _, out = run("make", "-rR", "-s", "-f", "-", "matrix", cwd=self.dir, input=show)
            self.built[folder] = {word.rstrip("/") for line in re.findall(r"^object (.*)$", out, re.M)
                                  for word in line.split()}
        return self.built[folder]

    def builds(self, path):
        """Returns whether Kbuild builds the object of a source file."""
        if path.startswith("rust/"):
            return "RUST" in self.config
        if path.startswith("samples/") and "SAMPLES" not in self.config:
            return False
        parts = path.split("/")
        for depth in range(2 if path.startswith("arch/") else 1, len(parts)):
            name = re.sub(r"\.(c|rs)$", ".o", parts[depth])
            if name not in self.objects("/".join(parts[:depth])):
                return False
        return True


def saved_command(cmd_file):
    """Returns the first of the commands that make a file of the default kernel's build."""
    with open(os.path.join(BUILT, cmd_file), encoding="utf-8") as f:
        return f.readline().split(":=", 1)[1].split(" ;")[0].replace("$(pound)", "#")


def command_of(path):
    """Returns how the default kernel's build compiles a file, or one beside it."""
    folder, name = os.path.split(path)
    stem = name.rsplit(".", 1)[0]
    names = [f".{stem}.o.cmd", f".{stem}.bc.cmd"]
    there = os.path.join(BUILT, folder)
    names += sorted(n for n in os.listdir(there) if n.endswith(".o.cmd")) if os.path.isdir(there) else []
    for candidate in names:
        if not os.path.exists(os.path.join(there, candidate)):
            continue
        command = saved_command(os.path.join(folder, candidate))
        other = re.match(r"\.(.*)\.(o|bc)\.cmd", candidate)[1]
        if other == stem or f"{st.TREE}/{folder}/{other}.c" in command:
            return re.sub(rf"(?<=[/\"=.]){re.escape(other)}(?=[.\" ])", stem, command)
    return None


def complaint(row, path, out):
    """Returns the compiler's diagnoses, without the chains of #include."""
    found = re.findall(r"^(?:.*: )?(?:error|warning).*(?:\n +--> .*)?", out.replace(st.TREE + "/", ""), re.M)
    return "".join(f"{row.name}: {path}: {line}\n" for line in found[:10] or out.split("\n")[:5])


def check_c(job):
    row, path = job
    command = command_of(path)
    if command is None:
        return f"{path}: the default kernel builds nothing beside it\n"
    words = shlex.split(command)
    source = os.path.join(st.TREE, path)
    words = [w for w in words[:words.index("-c")] if not w.startswith("-Wp,-M")]
    code, out = run(*words, "-fsyntax-only", source, cwd=row.dir)
    return complaint(row, path, out) if code or out else ""


def rust_step(row, cmd_file):
    """Runs a command of the default kernel's build in the row's folder, without code generation."""
    with open(os.path.join(BUILT, cmd_file), encoding="utf-8") as f:
        command = f.readline().split(":=", 1)[1].replace("$(pound)", "#").replace("$$", "$")
    if "bindgen" in command.split()[0]:
        command = re.sub(r"-Wp,-MMD,\S+", "", command)
    else:
        command = command.split(" ;")[0].replace(f"OBJTREE={BUILT}", f"OBJTREE={row.dir}")
        command = re.sub(r"--emit=(dep-info|obj|llvm-bc)=\S+", "", command)
        command = command.replace("-Dwarnings", "-Wwarnings")
        if "--emit=metadata" not in command:
            command += " --emit=metadata"
    return run("bash", "-c", command, cwd=row.dir, env=dict(os.environ, RUSTC_BOOTSTRAP="1"))


def check_rust(row, ours, edited):
    """Checks the bindings, the kernel crate, and those of our crates that the row builds."""
    found = ""
    for folder in {os.path.dirname(path) for path in ours} | {"rust/bindings"}:
        os.makedirs(os.path.join(row.dir, folder), exist_ok=True)
    steps = ["rust/bindings/.bindings_generated.rs.cmd", "rust/bindings/.bindings_helpers_generated.rs.cmd",
             "rust/.bindings.o.cmd", "rust/.kernel.o.cmd"]
    steps += [os.path.join(os.path.dirname(p), f".{os.path.basename(p)[:-3]}.o.cmd")
              for p in ours if row.builds(p)]
    for step in steps:
        code, out = rust_step(row, step)
        blocks = [b for b in re.split(r"\n(?=warning|error)", out)
                  if code or any(f"{st.TREE}/{p}:" in b for p in edited)]
        if code or blocks:
            found += complaint(row, step, "\n".join(blocks))
        if code:
            break
    return found


def crate_roots():
    """Returns the root files of our crates, each after the crates that it uses."""
    roots = []
    for path in st.our_files():
        cmd = os.path.join(BUILT, os.path.dirname(path), f".{os.path.basename(path)[:-3]}.o.cmd")
        if path.endswith(".rs") and not path.startswith(("rust/", "tools/")) and os.path.exists(cmd):
            roots.append(path)
    order = ["kernel/utrace/", "kernel/ubp/arch/", "kernel/ubp/ubp.rs", "kernel/uprobes/uprobes.rs"]
    rank = {path: next((n for n, o in enumerate(order) if path.startswith(o)), len(order)) for path in roots}
    return sorted(roots, key=lambda path: (rank[path], path))


def c_files():
    changed = paths(git("diff", "--name-only", "-z", "--diff-filter=AM", "base", "HEAD", "--", "*.c"))
    users = git("grep", "-lzE", HEADERS, "HEAD", "--", *(f"{k}/**.c" for k in KBUILT))
    users = [p.split(":", 1)[1] for p in paths(users)]
    looked_at = (*(k + "/" for k in KBUILT), "rust/helpers/helpers.c")
    return sorted(p for p in {*changed, *users} if p.startswith(looked_at))


def matrix():
    complaints = "".join(f"{m}\n" for m in uncovered())
    code, out = run("scripts/build", "default")
    if code:
        return f"the default kernel cannot be built:\n{out}"
    base = run("bash", "-c", "SHOW_WANTED=1 scripts/build default")[1]
    stamp = git("ls-files", "-s", "*Kconfig*").decode()
    rows = [Row(name) for name in ROWS]
    with ThreadPool(os.cpu_count()) as pool:
        complaints += "".join(pool.map(lambda row: row.configure(base, stamp), rows, chunksize=1))
        if complaints:
            return complaints
        ours = crate_roots()
        edited = paths(git("diff", "--name-only", "-z", "--diff-filter=AM", "base", "HEAD", "--", "*.rs"))
        rust = [pool.apply_async(check_rust, (row, ours, edited)) for row in rows if "RUST" in row.config]
        jobs = [(row, path) for path in c_files() for row in rows if row.builds(path)]
        complaints += "".join(pool.map(check_c, jobs, chunksize=1))
        complaints += "".join(r.get() for r in rust)
    return complaints
