// SPDX-License-Identifier: GPL-2.0
/* Debuggers, tracers and a program's own breakpoints beside probes. */
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "module_fixture.h"

#define STEPS	64

/* Forks a traced child that is stopped before it calls @fn(1, 2) and exits with 0. */
static pid_t start_traced(probed_fn fn)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(call_probed(fn, 1, 2) != 3);
	}
	waitpid(pid, NULL, 0);
	return pid;
}

static unsigned long ip_of(pid_t pid)
{
	return ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), NULL);
}

/* Runs the child to @at by a debugger's breakpoint, and removes this breakpoint. */
static bool run_to(pid_t pid, const void *at)
{
	long word = ptrace(PTRACE_PEEKTEXT, pid, at, NULL);
	int status;

	ptrace(PTRACE_POKETEXT, pid, at, (word & ~0xffL) | 0xcc);
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	waitpid(pid, &status, 0);
	if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP ||
	    ip_of(pid) != (unsigned long)at + 1)
		return false;
	ptrace(PTRACE_POKETEXT, pid, at, word);
	return !ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs.rip), at);
}

static int finish(pid_t pid)
{
	int status = -1;

	ptrace(PTRACE_CONT, pid, NULL, NULL);
	waitpid(pid, &status, 0);
	return status;
}

/* Collects the registers after each step from call_probed to its caller. */
static int step_through(pid_t pid, struct user_regs_struct *regs)
{
	int i, status;

	if (!run_to(pid, call_probed))
		return -1;
	for (i = 0; i < STEPS; i++) {
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) ||
		    waitpid(pid, &status, 0) != pid ||
		    !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
			return -1;
		ptrace(PTRACE_GETREGS, pid, NULL, &regs[i]);
		if (regs[i].rip == (unsigned long)call_probed_return)
			return i + 1;
	}
	return -1;
}

static void step_over_probe(struct __test_metadata *_metadata, int dev, probed_fn fn)
{
	static struct user_regs_struct native[STEPS], probed[STEPS];
	int id, i, steps;
	pid_t pid;

	/* Both children are forks of this process: all their addresses agree. */
	pid = start_traced(fn);
	steps = step_through(pid, native);
	ASSERT_LT(0, steps);
	ASSERT_EQ(0, finish(pid));

	pid = start_traced(fn);
	id = dev_register(dev, pid, fn, UPROBES_TEST_TASK);
	ASSERT_LT(0, id);
	EXPECT_EQ(steps, step_through(pid, probed));
	for (i = 0; i < steps; i++) {
		EXPECT_EQ(native[i].rip, probed[i].rip) TH_LOG("step %d", i);
		EXPECT_EQ(native[i].rax, probed[i].rax) TH_LOG("step %d", i);
		EXPECT_EQ(native[i].rsp, probed[i].rsp) TH_LOG("step %d", i);
		EXPECT_EQ(native[i].eflags, probed[i].eflags) TH_LOG("step %d", i);
	}
	EXPECT_EQ(1, dev_hits(dev, id));
	EXPECT_EQ(0, finish(pid));
	EXPECT_EQ(1, dev_hits(dev, id));
	ASSERT_EQ(0, dev_unregister(dev, id));
}

TEST_F_TIMEOUT(module, step_over_nop, TIMEOUT)
{
	step_over_probe(_metadata, self->dev, probed_nop);
}

TEST_F_TIMEOUT(module, step_over_push, TIMEOUT)
{
	step_over_probe(_metadata, self->dev, probed_push);
}

TEST_F_TIMEOUT(module, step_over_lea, TIMEOUT)
{
	step_over_probe(_metadata, self->dev, probed_lea);
}

/* A debugger's own breakpoint beside a probe reaches the debugger. */
TEST_F_TIMEOUT(module, breakpoint_beside_probe, TIMEOUT)
{
	pid_t pid = start_traced(probed_push);
	char *second = (char *)probed_push + 1;
	int id = dev_register(self->dev, pid, probed_push, UPROBES_TEST_TASK);
	struct user_regs_struct regs;

	ASSERT_LT(0, id);
	EXPECT_TRUE(run_to(pid, second));
	EXPECT_EQ(1, HITS(id));
	EXPECT_EQ(0, ptrace(PTRACE_GETREGS, pid, NULL, &regs));
	EXPECT_EQ(1, regs.rdi);
	EXPECT_EQ(2, regs.rsi);
	EXPECT_EQ(0, finish(pid));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
}

/* A probe cannot be registered at a breakpoint that the debugger has set before. */
TEST_F_TIMEOUT(module, breakpoint_before_probe, TIMEOUT)
{
	pid_t pid = start_traced(probed_lea);
	long word = ptrace(PTRACE_PEEKTEXT, pid, probed_lea, NULL);

	ASSERT_EQ(0, ptrace(PTRACE_POKETEXT, pid, probed_lea, (word & ~0xffL) | 0xcc));
	EXPECT_EQ(-EEXIST, dev_register(self->dev, pid, probed_lea, UPROBES_TEST_TASK));
	EXPECT_EQ((word & ~0xffL) | 0xcc, ptrace(PTRACE_PEEKTEXT, pid, probed_lea, NULL));
	ASSERT_EQ(0, ptrace(PTRACE_POKETEXT, pid, probed_lea, word));
	EXPECT_EQ(0, finish(pid));
}

/*
 * A debugger reads the original text, and may write it back without harm to the probe. The
 * debugger's own breakpoint replaces the probe's until the debugger removes it.
 */
TEST_F_TIMEOUT(module, debugger_reads_and_writes, TIMEOUT)
{
	pid_t pid = start_traced(probed_lea);
	long word = ptrace(PTRACE_PEEKTEXT, pid, probed_lea, NULL);
	int id = dev_register(self->dev, pid, probed_lea, UPROBES_TEST_TASK);

	ASSERT_LT(0, id);
	EXPECT_EQ(word, ptrace(PTRACE_PEEKTEXT, pid, probed_lea, NULL));
	ASSERT_EQ(0, ptrace(PTRACE_POKETEXT, pid, probed_lea, word));
	EXPECT_EQ(word, ptrace(PTRACE_PEEKTEXT, pid, probed_lea, NULL));
	EXPECT_TRUE(run_to(pid, probed_lea));
	EXPECT_EQ(0, HITS(id));
	EXPECT_TRUE(run_to(pid, call_probed_return));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(word, ptrace(PTRACE_PEEKTEXT, pid, probed_lea, NULL));
	EXPECT_EQ(0, finish(pid));
}

/* Probes are registered and unregistered while the debugger keeps the program stopped. */
TEST_F_TIMEOUT(module, register_in_ptrace_stop, TIMEOUT)
{
	pid_t pid = start_traced(probed_lea);
	unsigned int i;
	int id;

	for (i = 0; i < 20; i++) {
		id = dev_register(self->dev, pid, probed_lea, UPROBES_TEST_TASK);
		ASSERT_LT(0, id);
		ASSERT_TRUE(i != 10 || run_to(pid, call_probed));
		UNPROBE(id);
	}
	id = dev_register(self->dev, pid, probed_lea, UPROBES_TEST_TASK);
	ASSERT_LT(0, id);
	EXPECT_EQ(0, finish(pid));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
}

/* A debugger attaches to a probed program and detaches from it. */
TEST_F_TIMEOUT(module, attach_and_detach, TIMEOUT)
{
	struct target target;
	unsigned int i;
	int id, status;

	ASSERT_TRUE(target_start(&target));
	id = dev_register(self->dev, target.pid, probed_lea, UPROBES_TEST_TASK);
	ASSERT_LT(0, id);
	for (i = 1; i <= 20; i++) {
		ASSERT_EQ(0, ptrace(PTRACE_SEIZE, target.pid, NULL, NULL));
		ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, target.pid, NULL, NULL));
		ASSERT_EQ(target.pid, waitpid(target.pid, &status, 0));
		ASSERT_EQ(0, ptrace(PTRACE_DETACH, target.pid, NULL, NULL));
		ASSERT_EQ(30, target_call(&target, probed_lea, 1, 2, 10));
		EXPECT_EQ(10 * i, HITS(id));
	}
	UNPROBE(id);
	EXPECT_EQ(0, target_stop(&target));
}

/* Every system call of a probed program stops for its tracer, at entry and exit. */
TEST_F_TIMEOUT(module, system_call_stops, TIMEOUT)
{
	pid_t pid = fork();
	unsigned int stops = 0;
	int status, id;

	if (!pid) {
		unsigned int i;

		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		for (i = 0; i < 100; i++)
			if (syscall(SYS_getppid) <= 0 || probed_nop(1, i) != i + 1)
				_exit(1);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	id = dev_register(self->dev, pid, probed_nop, UPROBES_TEST_TASK);
	ASSERT_LT(0, id);
	ASSERT_EQ(0, ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD));
	for (;;) {
		ASSERT_EQ(0, ptrace(PTRACE_SYSCALL, pid, NULL, NULL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		if (!WIFSTOPPED(status))
			break;
		ASSERT_EQ(SIGTRAP | 0x80, WSTOPSIG(status));
		if (ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.orig_rax), NULL) ==
		    SYS_getppid)
			stops++;
	}
	EXPECT_EQ(0, status);
	EXPECT_EQ(200, stops);
	EXPECT_EQ(100, HITS(id));
	UNPROBE(id);
}

static atomic_uint traps;
static atomic_ulong trap_address;

static void on_trap(int signal, siginfo_t *info, void *context)
{
	ucontext_t *user = context;

	traps++;
	trap_address = user->uc_mcontext.gregs[REG_RIP];
}

/* The program's own int3 raises SIGTRAP, with or without probes. */
TEST_F_TIMEOUT(module, own_breakpoints, TIMEOUT)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
	unsigned char *text = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int i;
	int id;

	ASSERT_NE(MAP_FAILED, text);
	/* nop; int3; nop; int $3; ret */
	memcpy(text, "\x90\xcc\x90\xcd\x03\xc3", 6);
	ASSERT_EQ(0, sigaction(SIGTRAP, &action, NULL));
	id = PROBE(text);
	for (i = 1; i <= 100; i++) {
		((void (*)(void))text)();
		ASSERT_EQ(2 * i, traps);
		ASSERT_EQ((unsigned long)text + 5, trap_address);
	}
	EXPECT_EQ(100, HITS(id));
	UNPROBE(id);
	((void (*)(void))text)();
	EXPECT_EQ(202, traps);
}

/* An int3 that the program writes after a probe is removed is its own. */
TEST_F_TIMEOUT(module, own_breakpoint_after_probe, TIMEOUT)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
	unsigned char *text = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int id;

	ASSERT_NE(MAP_FAILED, text);
	memcpy(text, "\x90\xc3", 2);
	ASSERT_EQ(0, sigaction(SIGTRAP, &action, NULL));
	id = PROBE(text);
	((void (*)(void))text)();
	UNPROBE(id);
	text[0] = 0xcc;
	((void (*)(void))text)();
	EXPECT_EQ(1, traps);
	EXPECT_EQ((unsigned long)text + 1, trap_address);
}

TEST_HARNESS_MAIN
