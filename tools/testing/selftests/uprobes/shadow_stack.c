// SPDX-License-Identifier: GPL-2.0
/*
 * Probes in a process with a shadow stack.
 *
 * The program enables its shadow stack by itself, so it depends on no C library. All tests run in
 * one thread: make cpus runs them on an emulator that does not switch the state of shadow stacks
 * between threads.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "shadow_stack.h"
#include "uprobes_selftest.h"

#ifndef ARCH_SHSTK_ENABLE
#define ARCH_SHSTK_ENABLE	0x5001
#define ARCH_SHSTK_DISABLE	0x5002
#define ARCH_SHSTK_SHSTK	1
#endif
#ifndef __NR_map_shadow_stack
#define __NR_map_shadow_stack	453
#define SHADOW_STACK_SET_TOKEN	1
#endif
#ifndef SEGV_CPERR
#define SEGV_CPERR		10
#endif
#define CALLS			50
#define STACK_SIZE		0x10000
#define FLAG_TF			0x100

/* Inline, because a function that enables the shadow stack cannot return. */
#define SHADOW_STACK(command) ({				\
	long __ret;						\
	asm volatile("syscall" : "=a" (__ret)			\
		     : "0" (__NR_arch_prctl), "D" (command), "S" (ARCH_SHSTK_SHSTK) \
		     : "rcx", "r11", "memory");			\
	__ret;							\
})

static const struct function {
	const char *name;
	probed_fn call;
	const void *at;
} functions[] = {
	{ "entry", entry, entry_at },
	{ "call_near", call_near, call_near_at },
	{ "call_register", call_register, call_register_at },
	{ "call_memory", call_memory, call_memory_at },
	{ "call_stack", call_stack, call_stack_at },
	{ "call_next", call_next, call_next_at },
	{ "call_next_register", call_next_register, call_next_register_at },
	{ "ret_near", ret_near, ret_near_at },
	{ "ret_repeated", ret_repeated, ret_repeated_at },
	{ "ret_popping", ret_popping, ret_popping_at },
	{ "jump_tail", jump_tail, jump_tail_at },
	{ "read_ssp", read_ssp, read_ssp_at },
	{ "increase_ssp", increase_ssp, increase_ssp_at },
	{ "faulting", faulting, faulting_at },
};

static int dev;
static struct jump way_out;
/* State at the last signal. */
static volatile struct seen {
	unsigned int signals;
	int signal, code;
	unsigned long ip, sp, ssp;
	uint64_t ips;	/* all instruction pointers, as one number */
} seen;

static __always_inline unsigned long get_ssp(void)
{
	unsigned long ssp = 0;

	asm volatile("rdsspq %0" : "+r" (ssp));
	return ssp;
}

static void see(const siginfo_t *info, const ucontext_t *uc)
{
	seen.signals++;
	seen.signal = info->si_signo;
	seen.code = info->si_code;
	seen.ip = uc->uc_mcontext.gregs[REG_RIP];
	seen.sp = uc->uc_mcontext.gregs[REG_RSP];
	seen.ssp = get_ssp();
	seen.ips = seen.ips * 31 + seen.ip;
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	see(info, uc);
	if (signal == SIGSEGV && seen.ip == (unsigned long)faulting_at)
		uc->uc_mcontext.gregs[REG_RIP] += FAULTING_SIZE;
	else if (signal == SIGSEGV || signal == SIGUSR2)
		jump(&way_out);
	else if (signal == SIGUSR1 && call_near(seen.signals, 5) != seen.signals + 5UL)
		seen.code = 0;
}

static void catch_signals(void)
{
	static const int signals[] = { SIGSEGV, SIGUSR1, SIGUSR2, SIGTRAP };
	struct sigaction action = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &action, NULL);
}

static bool wrong(const char *name, const char *what, unsigned long got, unsigned long want)
{
	if (got != want)
		ksft_print_msg("%s: %s is %#lx, not %#lx\n", name, what, got, want);
	return got != want;
}

/* Returns whether all @times calls have the right result, and keep the shadow stack as it is. */
static bool calls_are_right(const struct function *f, unsigned int times)
{
	unsigned long ssp = get_ssp();
	bool bad = false;
	unsigned int i;

	for (i = 0; i < times && !bad; i++) {
		bad |= wrong(f->name, "the result", f->call(i, 7), i + 7);
		bad |= wrong(f->name, "the shadow stack", get_ssp(), ssp);
	}
	return !bad;
}

static int probe(const char *name, const void *at, unsigned int flags)
{
	int id = dev_register(dev, getpid(), at, flags);

	if (id < 0)
		ksft_print_msg("%s: no probe: %s\n", name, strerror(-id));
	return id;
}

static bool hit(const struct function *f, unsigned int flags)
{
	struct uprobes_test_count count;
	int id = probe(f->name, f->at, flags);
	bool good = id > 0 && calls_are_right(f, CALLS);

	if (id < 0 || dev_count(dev, id, &count))
		return false;
	good &= !wrong(f->name, "the number of hits",
		       flags & UPROBES_TEST_TASK ? count.task_hits : count.interrupt_hits, CALLS);
	good &= !dev_unregister(dev, id);
	return good && calls_are_right(f, 1);
}

static void test_instructions(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(functions); i++) {
		bool good = calls_are_right(&functions[i], 1) &&
			    hit(&functions[i], UPROBES_TEST_TASK) &&
			    hit(&functions[i], UPROBES_TEST_INTERRUPT);

		ksft_test_result(good, "instruction: %s\n", functions[i].name);
	}
}

static __attribute_noinline__ unsigned long recurse(unsigned long base, unsigned long add)
{
	unsigned long result = add ? recurse(base, add - 1) : base;

	/* Keeps the compiler from making a loop of the recursion. */
	asm volatile("" : "+r" (result));
	return result + !!add;
}

/* The handler of SIGUSR1 calls call_near(). */
static __attribute_noinline__ unsigned long interrupted(unsigned long base, unsigned long add)
{
	syscall(__NR_tgkill, getpid(), syscall(__NR_gettid), SIGUSR1);
	return base + add;
}

/* The handler of SIGUSR2 does not return. */
static __attribute_noinline__ unsigned long left_in_handler(unsigned long base, unsigned long add)
{
	syscall(__NR_tgkill, getpid(), syscall(__NR_gettid), SIGUSR2);
	return base + add;
}

static __attribute_noinline__ unsigned long left(unsigned long base, unsigned long add)
{
	if (add)
		jump(&way_out);
	return base;
}

/* Returns whether @f, with a probe on entry and returns, counts @each of both in a call. */
static bool returns(const struct function *f, unsigned int each)
{
	struct uprobes_test_count count;
	int id = probe(f->name, f->call, UPROBES_TEST_TASK | UPROBES_TEST_RETURN);
	bool good = id > 0 && calls_are_right(f, CALLS);

	if (id < 0 || dev_count(dev, id, &count))
		return false;
	good &= !wrong(f->name, "the number of hits", count.task_hits, CALLS * each);
	good &= !wrong(f->name, "the number of returns", count.return_hits, CALLS * each);
	good &= !wrong(f->name, "the last value", count.return_ax, CALLS - 1 + 7);
	good &= !dev_unregister(dev, id);
	return good && calls_are_right(f, 1);
}

static void test_returns(void)
{
	static const struct function probed[] = {
		{ "nop", probed_nop }, { "push", probed_push }, { "mixed", probed_mixed },
		{ "call_near", call_near }, { "call_register", call_register },
		{ "call_memory", call_memory },
	};
	static const struct function recursive = { "recurse", recurse };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(probed); i++)
		ksft_test_result(returns(&probed[i], 1), "return: %s\n", probed[i].name);
	ksft_test_result(returns(&recursive, 7 + 1), "return: recursion\n");
}

/* A return handler moves the thread past an instruction of the caller. */
static void test_moved_return(void)
{
	struct uprobes_test_register how = {
		.pid = getpid(), .vaddr = (unsigned long)probed_nop,
		.flags = UPROBES_TEST_RETURN, .add_return_ip = 4,
	};
	int id = dev_register_how(dev, &how);
	struct uprobes_test_count count = { 0 };
	unsigned long ssp = get_ssp();
	bool good = id > 0;
	unsigned int i;

	for (i = 0; i < CALLS && good; i++)
		good = !wrong("call_and_add", "the result", call_and_add(i, 1), i + 1);
	good &= !dev_count(dev, id, &count);
	good &= !wrong("probed_nop", "the number of returns", count.return_hits, CALLS);
	good &= !wrong("afterwards", "the shadow stack", get_ssp(), ssp);
	dev_unregister(dev, id);
	good &= !wrong("call_and_add", "the result", call_and_add(1, 1), 102);
	ksft_test_result(good, "return to another address\n");
}

/* The entry, the return and the handler's callee are probed. */
static void test_signals(void)
{
	static const struct function f = { "interrupted", interrupted };
	int id = probe("call_near", call_near_at, UPROBES_TEST_TASK);
	bool good;

	memset((void *)&seen, 0, sizeof(seen));
	good = id > 0 && returns(&f, 1);
	good &= !wrong(f.name, "the number of signals", seen.signals, CALLS + 1);
	good &= !wrong(f.name, "the signal's code", seen.code, SI_TKILL);
	good &= !wrong("call_near", "the number of hits", dev_hits(dev, id), CALLS + 1);
	dev_unregister(dev, id);
	ksft_test_result(good, "signals in a probed function\n");
}

/* Calls @call, which must leave by jump(). Returns false if it returns. */
static bool is_left(probed_fn call)
{
	unsigned long ssp = get_ssp();

	if (!jump_set(&way_out)) {
		call(1, 1);
		return false;
	}
	return !wrong("after the jump", "the shadow stack", get_ssp(), ssp);
}

static void test_jumps(const char *name, probed_fn call)
{
	int id = probe(name, call, UPROBES_TEST_TASK | UPROBES_TEST_RETURN);
	struct uprobes_test_count count = { 0 };
	bool good = id > 0;
	unsigned int i;

	for (i = 0; i < CALLS && good; i++)
		good = is_left(call);
	good &= !dev_count(dev, id, &count);
	good &= !wrong(name, "the number of hits", count.task_hits, CALLS);
	good &= !wrong(name, "the number of returns", count.return_hits, 0);
	dev_unregister(dev, id);
	ksft_test_result(good && calls_are_right(&functions[0], 1), "longjmp out of %s\n", name);
}

/* A return that the shadow stack contradicts causes the same fault with and without a probe. */
static void test_wrong_return(void)
{
	struct seen native, probed;
	bool good = is_left(return_elsewhere);
	int id;

	native = seen;
	id = probe("return_elsewhere", return_elsewhere_at, UPROBES_TEST_TASK);
	good &= id > 0 && is_left(return_elsewhere);
	probed = seen;
	good &= !wrong("native", "the signal", native.signal, SIGSEGV);
	good &= !wrong("native", "the code", native.code, SEGV_CPERR);
	good &= !wrong("probed", "the signal", probed.signal, native.signal);
	good &= !wrong("probed", "the code", probed.code, native.code);
	good &= !wrong("probed", "the address", probed.ip, (unsigned long)return_elsewhere_at);
	good &= !wrong("probed", "the stack", probed.sp, native.sp);
	good &= !wrong("probed", "the shadow stack", probed.ssp, native.ssp);
	good &= !wrong("probed", "the number of hits", dev_hits(dev, id), 1);
	dev_unregister(dev, id);
	ksft_test_result(good, "a wrong return address\n");
}

/* Calls @f with 1 and 2 under the trap flag. Returns all addresses combined in one number. */
static __attribute_noinline__ uint64_t call_stepped(const struct function *f)
{
	unsigned long result;

	memset((void *)&seen, 0, sizeof(seen));

	asm volatile("pushf\n\torl %[tf], (%%rsp)\n\tpopf\n\t"
		     "call *%[call]\n\t"
		     "pushf\n\tandl %[no_tf], (%%rsp)\n\tpopf"
		     : "=a" (result)
		     : "D" (1UL), "S" (2UL), [call] "r" (f->call),
		       [tf] "i" (FLAG_TF), [no_tf] "i" (~FLAG_TF)
		     : "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
	return wrong(f->name, "the result", result, 3) ? 0 : seen.ips;
}

/* The program single-steps itself, in the same steps with and without a probe. */
static void test_steps(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(functions); i++) {
		const struct function *f = &functions[i];
		unsigned long ssp = get_ssp();
		uint64_t native = call_stepped(f);
		unsigned int steps = seen.signals;
		int id = probe(f->name, f->at, UPROBES_TEST_TASK);
		bool good = native;

		good &= !wrong(f->name, "the sum of the steps' addresses", call_stepped(f), native);
		good &= !wrong(f->name, "the number of steps", seen.signals, steps);
		good &= !wrong(f->name, "the shadow stack", get_ssp(), ssp);
		good &= !wrong(f->name, "the number of hits", dev_hits(dev, id), 1);
		dev_unregister(dev, id);
		ksft_test_result(good, "stepped: %s\n", f->name);
	}
}

/* RSTORSSP and SAVEPREVSSP switch to another shadow stack and back. */
static void test_switch(void)
{
	static const void *const at[] = { switch_restore_at, switch_save_at };
	unsigned long ssp = get_ssp(), stack, token;
	bool good;
	unsigned int i;
	int id;

	stack = syscall(__NR_map_shadow_stack, 0, STACK_SIZE, SHADOW_STACK_SET_TOKEN);
	good = (long)stack > 0;
	token = stack + STACK_SIZE - sizeof(token);
	if (good) {
		good = !wrong("native", "the result", switch_shadow_stack(token, 7), token + 7);
		for (i = 0; i < ARRAY_SIZE(at); i++) {
			id = probe("switch", at[i], UPROBES_TEST_TASK);
			good &= id > 0;
			good &= !wrong("probed", "the result", switch_shadow_stack(token, 7),
				       token + 7);
			good &= !wrong("probed", "the number of hits", dev_hits(dev, id), 1);
			dev_unregister(dev, id);
		}
		munmap((void *)stack, STACK_SIZE);
	}
	good &= !wrong("afterwards", "the shadow stack", get_ssp(), ssp);
	ksft_test_result(good, "switch to another shadow stack\n");
}

int main(void)
{
	ksft_print_header();
	dev = dev_open();
	if (dev < 0)
		ksft_exit_skip("no %s\n", UPROBES_TEST_DEVICE);
	catch_signals();
	if (SHADOW_STACK(ARCH_SHSTK_ENABLE))
		ksft_exit_skip("no shadow stacks for user space\n");
	ksft_set_plan(2 * ARRAY_SIZE(functions) + 13);
	test_instructions();
	test_returns();
	test_moved_return();
	test_signals();
	test_jumps("left", left);
	test_jumps("left_in_handler", left_in_handler);
	test_wrong_return();
	test_switch();
	test_steps();
	SHADOW_STACK(ARCH_SHSTK_DISABLE);
	ksft_finished();
}
