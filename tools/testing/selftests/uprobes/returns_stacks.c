// SPDX-License-Identifier: GPL-2.0
/*
 * Calls that return elsewhere than they were made, later, together, or never. Most tests probe the
 * caller, call_probed(), so its callee is inside the probed function.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "module_fixture.h"
#include "returns_text.h"

TEST_F_TIMEOUT(module, tail_call, TIMEOUT)
{
	int tail = PROBE_HOW(OF(returns_by_tail), .flags = UPROBES_TEST_RETURN);
	int leaf = PROBE_HOW(OF(returns_leaf), .flags = UPROBES_TEST_RETURN);
	unsigned int i;

	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 3, call_probed(returns_by_tail, i, 2));
	EXPECT_EQ(100, RETURNS(tail));
	EXPECT_EQ(100, RETURNS(leaf));
	EXPECT_EQ(102, COUNT(tail).return_ax);
	/* The function that was entered last returns first. */
	EXPECT_LT(COUNT(leaf).return_sequence, COUNT(tail).return_sequence);
	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 2, call_probed(returns_leaf, i, 2));
	EXPECT_EQ(100, RETURNS(tail));
	EXPECT_EQ(200, RETURNS(leaf));
	UNPROBE(leaf);
	EXPECT_EQ(4, call_probed(returns_by_tail, 1, 2));
	EXPECT_EQ(101, RETURNS(tail));
	UNPROBE(tail);
}

static jmp_buf outside;

static unsigned long jump_out(unsigned long base, unsigned long add)
{
	longjmp(outside, 1);
}

TEST_F_TIMEOUT(module, jumped_out, TIMEOUT)
{
	int id = PROBE_BOTH(call_probed);
	volatile unsigned int i, jumped = 0;

	for (i = 0; i < 100; i++) {
		if (setjmp(outside))
			jumped++;
		else
			call_probed(jump_out, 0, 0);
		/* Return from elsewhere on the stack, and sometimes from the place of the jump. */
		if (i % 2)
			ASSERT_EQ(i + 1, call_probed(returns_leaf, i, 1));
	}
	EXPECT_EQ(100, jumped);
	EXPECT_EQ(150, HITS(id));
	EXPECT_EQ(50, RETURNS(id));
	EXPECT_EQ(0, COUNT(id).misses);
	UNPROBE(id);
}

static unsigned long jump_out_of_many(unsigned long depth, unsigned long unused)
{
	if (!depth)
		longjmp(outside, 1);
	return call_probed(jump_out_of_many, depth - 1, 0) + 1;
}

TEST_F_TIMEOUT(module, jumped_out_of_many, TIMEOUT)
{
	int id = PROBE_BOTH(call_probed);
	volatile unsigned int i;

	for (i = 0; i < 20; i++)
		if (!setjmp(outside))
			call_probed(jump_out_of_many, 99, 0);
	EXPECT_EQ(2000, HITS(id));
	EXPECT_EQ(0, RETURNS(id));
	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 1, call_probed(returns_leaf, i, 1));
	EXPECT_EQ(100, RETURNS(id));
	UNPROBE(id);
}

static volatile unsigned long from_signal;
static volatile bool jump_from_signal;
static sigjmp_buf outside_of_signal;

static void on_signal(int sig)
{
	from_signal += call_probed(returns_leaf, 1, 2);
	if (jump_from_signal)
		siglongjmp(outside_of_signal, 1);
}

static unsigned long raise_signal(unsigned long base, unsigned long add)
{
	raise(SIGUSR1);
	return base + add;
}

TEST_F_TIMEOUT(module, signal_stack, TIMEOUT)
{
	stack_t stack = { .ss_sp = malloc(1 << 16), .ss_size = 1 << 16 };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
	int id = PROBE_BOTH(call_probed);
	volatile unsigned int i;

	ASSERT_NE(NULL, stack.ss_sp);
	ASSERT_EQ(0, sigaltstack(&stack, NULL));
	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	for (i = 0; i < 50; i++)
		ASSERT_EQ(i + 1, call_probed(raise_signal, i, 1));
	EXPECT_EQ(150, from_signal);
	EXPECT_EQ(100, RETURNS(id));
	/* The signal handler does not return, so neither does the interrupted call. */
	jump_from_signal = true;
	for (i = 0; i < 50; i++)
		if (!sigsetjmp(outside_of_signal, 1))
			call_probed(raise_signal, i, 1);
	EXPECT_EQ(300, from_signal);
	EXPECT_EQ(200, HITS(id));
	EXPECT_EQ(150, RETURNS(id));
	EXPECT_EQ(0, COUNT(id).misses);
	UNPROBE(id);
}

#define COROUTINES	16
#define STACK	(64UL << 10)

static struct coroutine {
	ucontext_t inside;
	ucontext_t outside;
	void *stack;
	unsigned long returned;
} coroutines[COROUTINES];

static unsigned long yield(unsigned long which, unsigned long add)
{
	swapcontext(&coroutines[which].inside, &coroutines[which].outside);
	return which + add;
}

static void run_coroutine(int which)
{
	struct coroutine *self = &coroutines[which];

	self->returned = call_probed(yield, which, 1000);
}

static bool start_coroutine(unsigned int which)
{
	struct coroutine *coroutine = &coroutines[which];

	coroutine->stack = mmap(coroutine->stack, STACK, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS |
				(coroutine->stack ? MAP_FIXED_NOREPLACE : 0), -1, 0);
	if (coroutine->stack == MAP_FAILED || getcontext(&coroutine->inside))
		return false;
	coroutine->inside.uc_stack.ss_sp = coroutine->stack;
	coroutine->inside.uc_stack.ss_size = STACK;
	coroutine->inside.uc_link = &coroutine->outside;
	makecontext(&coroutine->inside, (void (*)(void))run_coroutine, 1, (int)which);
	return !swapcontext(&coroutine->outside, &coroutine->inside);
}

static void *finish_coroutines(void *arg)
{
	unsigned int i;

	/* Not in the order of the calls. */
	for (i = 0; i < COROUTINES; i++) {
		struct coroutine *coroutine = &coroutines[i * 7 % COROUTINES];

		swapcontext(&coroutine->outside, &coroutine->inside);
	}
	*(pid_t *)arg = gettid();
	return NULL;
}

TEST_F_TIMEOUT(module, coroutines, TIMEOUT)
{
	int id = PROBE_BOTH(call_probed);
	pthread_t thread;
	pid_t tid = 0;
	unsigned int i;

	for (i = 0; i < COROUTINES; i++)
		ASSERT_TRUE(start_coroutine(i));
	EXPECT_EQ(COROUTINES, HITS(id));
	EXPECT_EQ(gettid(), COUNT(id).last_tid);
	EXPECT_EQ(0, RETURNS(id));
	ASSERT_EQ(0, pthread_create(&thread, NULL, finish_coroutines, &tid));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(COROUTINES, RETURNS(id));
	EXPECT_EQ(tid, COUNT(id).last_tid);
	for (i = 0; i < COROUTINES; i++)
		EXPECT_EQ(1000 + i, coroutines[i].returned);
	EXPECT_EQ(0, COUNT(id).misses);
	UNPROBE(id);
}

/* Stacks are unmapped with unfinished calls on them, and others take their place. */
TEST_F_TIMEOUT(module, stack_goes, TIMEOUT)
{
	int id = PROBE_BOTH(call_probed);
	unsigned int round, i, rounds = 100;
	pid_t tid;

	for (round = 0; round < rounds; round++) {
		for (i = 0; i < COROUTINES; i++)
			ASSERT_TRUE(start_coroutine(i));
		for (i = 0; i < COROUTINES; i++) {
			ASSERT_EQ(0, munmap(coroutines[i].stack, STACK));
			/* Another place every second time: pages of dead stacks pile up. */
			if (round % 2)
				coroutines[i].stack = NULL;
		}
		ASSERT_EQ(round + 2, call_probed(returns_leaf, round, 2));
	}
	EXPECT_EQ(rounds * (COROUTINES + 1), HITS(id));
	EXPECT_EQ(rounds, RETURNS(id));
	for (i = 0; i < COROUTINES; i++)
		ASSERT_TRUE(start_coroutine(i));
	finish_coroutines(&tid);
	EXPECT_EQ(rounds + COROUTINES, RETURNS(id));
	EXPECT_EQ(0, COUNT(id).misses);
	UNPROBE(id);
}

/* Far more stacks than the kernel keeps, each with a call that never returns. */
TEST_F_TIMEOUT(module, many_dead_stacks, TIMEOUT)
{
	int id = PROBE_BOTH(call_probed);
	unsigned int i, rounds = scaled(3000);
	/* The stacks have distinct addresses, where nothing else is mapped. */
	char *place = mmap(NULL, rounds * STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
			   MAP_NORESERVE, -1, 0);

	ASSERT_NE(MAP_FAILED, place);
	ASSERT_EQ(0, munmap(place, rounds * STACK));
	for (i = 0; i < rounds; i++) {
		coroutines[0].stack = place + i * STACK;
		ASSERT_TRUE(start_coroutine(0));
		ASSERT_EQ(0, munmap(coroutines[0].stack, STACK));
	}
	ASSERT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_EQ(rounds + 1, HITS(id));
	EXPECT_EQ(1, RETURNS(id));
	EXPECT_EQ(0, COUNT(id).misses);
	UNPROBE(id);
}

struct live {
	atomic_bool stop;
	bool failed;
	unsigned long calls;
};

static void *call_until_stopped(void *arg)
{
	const unsigned long depth = 40;
	struct live *live = arg;

	while (!live->stop) {
		live->failed |= call_probed(returns_deep, depth, 0) != depth;
		live->calls += depth + 1;
	}
	return NULL;
}

/* The search for dead calls looks through the calls of a running thread. */
TEST_F_TIMEOUT(module, dead_stacks_beside_live_ones, TIMEOUT)
{
	int dead = PROBE_BOTH(call_probed);
	int deep = PROBE_BOTH(returns_deep);
	unsigned int i, rounds = scaled(20000);
	struct live live = { .stop = false };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, call_until_stopped, &live));
	for (i = 0; i < rounds; i++) {
		coroutines[0].stack = NULL;
		ASSERT_TRUE(start_coroutine(0));
		/* Some stacks take the place of unmapped ones. */
		if (i % 4)
			ASSERT_EQ(0, munmap(coroutines[0].stack, STACK));
	}
	live.stop = true;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_FALSE(live.failed);
	EXPECT_LT(1000, live.calls);
	EXPECT_EQ(live.calls, COUNT(deep).task_hits);
	EXPECT_EQ(live.calls, COUNT(deep).return_hits);
	EXPECT_EQ(0, COUNT(dead).misses + COUNT(deep).misses);
	UNPROBE(dead);
	UNPROBE(deep);
}

static unsigned long exit_thread(unsigned long how, unsigned long unused)
{
	if (how)
		pthread_exit(NULL);
	syscall(SYS_exit, 0);
	return 0;
}

/*
 * This must not be a tail call: the next thread's return to the same address would be taken for the
 * return of this call.
 */
static void *die_inside(void *arg)
{
	return (void *)(call_probed(exit_thread, (unsigned long)arg, 0) + 1);
}

static void *live(void *arg)
{
	return (void *)(call_probed(returns_leaf, 1, 2) - 3);
}

/* Threads exit within the function, and other threads get their stacks. */
TEST_F_TIMEOUT(module, threads_die_inside, TIMEOUT)
{
	int id = PROBE_BOTH(call_probed);
	unsigned int i, rounds = 50;

	for (i = 0; i < rounds; i++) {
		pthread_t thread;
		void *ret;

		ASSERT_EQ(0, pthread_create(&thread, NULL, die_inside, (void *)(i % 2UL)));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_EQ(0, pthread_create(&thread, NULL, live, NULL));
		ASSERT_EQ(0, pthread_join(thread, &ret));
		ASSERT_EQ(NULL, ret);
	}
	EXPECT_EQ(2 * rounds, HITS(id));
	EXPECT_EQ(rounds, RETURNS(id));
	UNPROBE(id);
}

TEST_HARNESS_MAIN
