# SPDX-License-Identifier: GPL-2.0
# The driver. Each target is a script in scripts/, which says what it does.

# Taken as they are: a $ in RUN is the guest's shell's.
override RUN := $(value RUN)
KERNEL ?= default
export RUN KERNEL SMP MEM ICOUNT TIMEOUT SPLAT_OK APPEND LOG KSRC PATCH FROM JOBS
MAKEFLAGS += --no-print-directory

help:
	@echo 'make run       from a fresh machine to a traced process: installs, fetches, builds, boots'
	@echo 'make check     lint, KUnit and selftests, on a plain and on a debug kernel; comparison with'
	@echo '               the stock kernel    [PARTS="PART…", as scripts/check says]'
	@echo 'make differential   instructions with and without a breakpoint, in random states'
	@echo '               [N=2000000] [SEED=n]'
	@echo 'make storm     64 threads, signals, forks, for ten minutes on the debug kernel'
	@echo '               [SECONDS=600]'
	@echo 'make languages   C++, Go, Rust, Python and JavaScript with probes on calls and returns'
	@echo '               for a minute each    [SECONDS=60] [KERNEL=default|debug]'
	@echo 'make cpus      probes with shadow stacks on, and AVX-512 instructions, on an emulated'
	@echo '               Tiger Lake (Bochs)'
	@echo 'make mutants   whether that test notices faults in the code    [NAMES="…"]'
	@echo 'make costs     instructions of a system call, a page fault and others, against stock'
	@echo 'make bench     what probes cost, beside mainline'"'"'s: table, plots, marks; builds three'
	@echo '               kernels first    [PARTS="hits traps among register costs times scale"]'
	@echo '               [PUBLISH=1 puts them into bench/, which README shows]'
	@echo 'make coverage  how many instructions of bash, libc, python3, libcrypto and node can be'
	@echo '               probed, and how they are executed    [FILES="…"]'
	@echo 'make kernel-selftests   the kernel tree'"'"'s own ptrace, breakpoints, seccomp and x86'
	@echo '               selftests, case by case against stock    [KERNEL=default|debug]'
	@echo 'make check-mainline   the tests and clients of mainline'"'"'s uprobes: ftrace, perf, bpftrace,'
	@echo '               bcc, trace-cmd, case by case against mainline'"'"'s kernel    [GROUPS="…"]'
	@echo 'make baseline  builds the stock kernel and records what these compare with'
	@echo 'make guest RUN='\''command'\'' [KERNEL=default|debug|mainline|stock] [SMP=n] [ICOUNT=1]'
	@echo '               [TIMEOUT=s] [SPLAT_OK=1]   a command as root on our kernel'
	@echo 'make shell     the same with a terminal (exit ends it)'
	@echo 'make build     [KERNEL=…] only builds a kernel, into build/o-KERNEL'
	@echo 'make tree      assembles build/tree, a git repository with a commit a patch'
	@echo 'make take-back [PATCH=NN-slug] takes edits made in build/tree into the repository'
	@echo 'make series    writes the patches to send into build/series [FROM="Name <address>"]'
	@echo 'make lint      only the static checks'
	@echo 'make bisect    builds every commit of the series (long)'
	@echo 'make setup     only installs what is missing'
	@echo 'make clean     removes build/'
	@echo 'KSRC=/path     takes the base kernel from there (read only) instead of Debian'"'"'s package'

run:
	@scripts/run

check:
	@scripts/check $(PARTS)

differential: tree
	@scripts/build default >&2
	@scripts/differential $(N) $(SEED)

storm: tree
	@KERNEL=debug scripts/build debug >&2
	@scripts/storm $(SECONDS)

languages: build
	@scripts/languages $(SECONDS)

cpus: tree
	@scripts/setup cpus >&2
	@scripts/build default >&2
	@scripts/cpus

mutants: tree
	@scripts/mutants $(NAMES)

costs: tree
	@scripts/build default >&2
	@scripts/baseline missing
	@scripts/costs

bench: tree
	@for kernel in bench bench-mainline bench-stock; do scripts/build $$kernel >&2 || exit; done
	@scripts/bench $(if $(PUBLISH),--publish) $(PARTS)

coverage: build
	@scripts/coverage $(FILES)

kernel-selftests: build
	@scripts/baseline missing
	@scripts/kernel-selftests $(KERNEL)

check-mainline: tree
	@scripts/setup check-mainline >&2
	@scripts/check-mainline --kernel $(KERNEL) $(GROUPS)

baseline: tree
	@scripts/baseline

setup:
	@scripts/setup >&2

tree: setup
	@scripts/fetch >&2
	@scripts/tree >&2

build: tree
	@scripts/build $(KERNEL) >&2

guest: build
	@scripts/guest "$$RUN"

shell: build
	@scripts/guest --shell

lint: tree
	@scripts/lint

series: tree
	@scripts/format-series

take-back:
	@scripts/take-back

bisect: tree
	@scripts/bisect

clean:
	@[ ! -d build/tree/.git ] || git -C build/tree diff --quiet HEAD || \
		{ echo 'build/tree has been edited; first: make take-back, or remove build/ by hand'; exit 1; }
	rm -rf build

.PHONY: help run check differential storm languages cpus bench mutants costs coverage kernel-selftests check-mainline baseline setup tree build guest shell lint series take-back bisect clean
