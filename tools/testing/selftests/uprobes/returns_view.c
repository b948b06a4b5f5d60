// SPDX-License-Identifier: GPL-2.0
/*
 * The registers that return handlers get: those that a probe at the return
 * address gets, however the return is detected.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <ucontext.h>

#include "module_fixture.h"
#include "returns_text.h"

static unsigned long call_leaf(unsigned long base, unsigned long add)
{
	return call_probed(returns_leaf, base, add);
}

static unsigned long call_by_tail(unsigned long base, unsigned long add)
{
	return call_probed(returns_by_tail, base, add) - 1;
}

static unsigned long call_opaque(unsigned long base, unsigned long add)
{
	return call_probed(opaque_leaf, base, add);
}

FIXTURE_VARIANT(module)
{
	const void *function, *return_address;
	size_t size;
	/* Returns @base + @add. */
	probed_fn call;
};

FIXTURE_VARIANT_ADD(module, by_instruction) {
	.function = returns_leaf,
	.return_address = call_probed_return,
	.call = call_leaf,
};

FIXTURE_VARIANT_ADD(module, by_tail) {
	.function = returns_by_tail,
	.return_address = call_probed_return,
	.call = call_by_tail,
};

FIXTURE_VARIANT_ADD(module, popping) {
	.function = returns_and_pops,
	.return_address = call_and_pop_return,
	.call = call_and_pop,
};

FIXTURE_VARIANT_ADD(module, by_address) {
	.function = opaque_leaf,
	.return_address = call_probed_return,
	.call = call_opaque,
};

FIXTURE_VARIANT_ADD(module, by_address_popping) {
	.function = opaque_and_pops,
	.return_address = call_and_pop_opaque_return,
	.call = call_and_pop_opaque,
};

static bool same_registers(const struct uprobes_test_count *returned,
			   const struct uprobes_test_count *after)
{
	return returned->return_ip == after->last_ip && returned->return_sp == after->last_sp;
}

TEST_F_TIMEOUT(module, after_the_return, TIMEOUT)
{
	int id = PROBE_HOW(OF(variant->function), .flags = UPROBES_TEST_RETURN);
	int after = PROBE(variant->return_address);
	struct uprobes_test_count one, two;
	unsigned long i;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(i + 2, variant->call(i, 2));
		one = COUNT(id);
		two = COUNT(after);
		ASSERT_EQ(i + 1, one.return_hits);
		ASSERT_EQ(i + 1, two.task_hits);
		ASSERT_EQ((unsigned long)variant->return_address, one.return_ip);
		ASSERT_TRUE(same_registers(&one, &two));
	}
	UNPROBE(id);
	UNPROBE(after);
}

/* Two consumers: the second one does not see where the first one has moved the thread. */
TEST_F_TIMEOUT(module, two_consumers, TIMEOUT)
{
	int first = PROBE_HOW(OF(variant->function), .flags = UPROBES_TEST_RETURN, .add_ax = 1);
	int second = PROBE_HOW(OF(variant->function), .flags = UPROBES_TEST_RETURN);
	unsigned long i;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(i + 3, variant->call(i, 2));
		ASSERT_EQ(i + 1, COUNT(second).return_hits);
		ASSERT_EQ((unsigned long)variant->return_address, COUNT(second).return_ip);
		ASSERT_EQ(COUNT(first).return_sp, COUNT(second).return_sp);
	}
	UNPROBE(first);
	UNPROBE(second);
}

static sigjmp_buf way_out;
static volatile unsigned long fault_ip, fault_sp;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;

	fault_ip = uc->uc_mcontext.gregs[REG_RIP];
	fault_sp = uc->uc_mcontext.gregs[REG_RSP];
	siglongjmp(way_out, 1);
}

static void return_to(unsigned long address)
{
	if (!sigsetjmp(way_out, 1))
		returns_elsewhere(address);
}

/* A return to an address that the CPU refuses causes the same fault with a probe. */
TEST_F_TIMEOUT(module, bad_address, TIMEOUT)
{
	const unsigned long addresses[] = { 1UL << 63, 1UL << 47, -1UL, 8 };
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	unsigned int i;

	ASSERT_EQ(0, sigaction(SIGSEGV, &action, NULL));
	for (i = 0; i < ARRAY_SIZE(addresses); i++) {
		unsigned long ip, sp;
		int id;

		return_to(addresses[i]);
		ip = fault_ip;
		sp = fault_sp;
		id = PROBE_HOW(OF(returns_elsewhere), .flags = UPROBES_TEST_RETURN);
		return_to(addresses[i]);
		EXPECT_EQ(ip, fault_ip);
		EXPECT_EQ(sp, fault_sp);
		EXPECT_EQ(1, COUNT(id).return_hits + COUNT(id).misses);
		UNPROBE(id);
	}
	signal(SIGSEGV, SIG_DFL);
}

TEST_HARNESS_MAIN
