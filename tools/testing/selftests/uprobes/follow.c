// SPDX-License-Identifier: GPL-2.0
/* Probes with UPROBE_FOLLOW_FORK in the children of a probed process. */
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "module_fixture.h"
#include "returns_text.h"

#define CALLS	100U
#define ALL	(UPROBES_TEST_TASK | UPROBES_TEST_INTERRUPT | UPROBES_TEST_RETURN)

FIXTURE_VARIANT(module)
{
	unsigned int flags;
	bool sized;
};

FIXTURE_VARIANT_ADD(module, followed) {
	.flags = UPROBES_TEST_FOLLOW,
};

FIXTURE_VARIANT_ADD(module, followed_sized) {
	.flags = UPROBES_TEST_FOLLOW,
	.sized = true,
};

FIXTURE_VARIANT_ADD(module, not_followed) {
	.flags = 0,
};

#define PROBE_LEAF() PROBE_HOW(OF(returns_leaf), .flags = ALL | variant->flags, \
	.size = variant->sized ? SIZE_OF(returns_leaf) : 0)

/* Calls of the children, if the probe follows into them. */
#define OF_CHILD(calls)	(variant->flags ? (calls) : 0)

/* Each handler has counted as many calls as the program has made. */
static void expect_calls(struct __test_metadata *_metadata, int dev, int id, unsigned int calls)
{
	struct uprobes_test_count count;

	ASSERT_EQ(0, dev_count(dev, id, &count));
	EXPECT_EQ(calls, count.task_hits);
	EXPECT_EQ(calls, count.interrupt_hits);
	EXPECT_EQ(calls, count.return_hits);
	EXPECT_EQ(calls, count.hits);
	EXPECT_EQ(calls, count.returns);
	EXPECT_EQ(0, count.misses);
}

#define EXPECT_CALLS(id, calls)	expect_calls(_metadata, self->dev, id, calls)

/* Returns the number of calls with a wrong result. */
static unsigned int call_many(void)
{
	unsigned int i, wrong = 0;

	for (i = 0; i < CALLS; i++)
		wrong += call_probed(returns_leaf, i, 7) != i + 7;
	return wrong;
}

static bool text_is_clean(pid_t pid)
{
	return text_is_of_file(pid, returns_at_once, 4096) && text_is_of_file(pid, call_probed, 64);
}

static int exit_status(pid_t pid)
{
	int status = -1;

	if (waitpid(pid, &status, __WALL) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST_F_TIMEOUT(module, child_and_grandchild, TIMEOUT)
{
	int id = PROBE_LEAF(), i;

	for (i = 1; i <= 10; i++) {
		pid_t child = fork();

		if (!child) {
			pid_t grandchild;

			if (call_many())
				_exit(1);
			grandchild = fork();
			if (!grandchild)
				_exit(call_many() ? 1 : 0);
			_exit(exit_status(grandchild) || call_many() ? 2 : 0);
		}
		ASSERT_EQ(0, exit_status(child));
		EXPECT_CALLS(id, (i - 1) * CALLS + i * OF_CHILD(3 * CALLS));
		EXPECT_EQ(0, call_many());
		EXPECT_CALLS(id, i * CALLS + i * OF_CHILD(3 * CALLS));
	}
	UNPROBE(id);
	EXPECT_TRUE(text_is_clean(getpid()));
	EXPECT_TRUE(page_is_of_file(getpid(), returns_at_once));
}

/* A child remains probed after its parent has exited. */
TEST_F_TIMEOUT(module, orphan, TIMEOUT)
{
	struct target target;
	int id, go[2], done[2];
	char byte = 0;
	pid_t child;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(done));
	id = PROBE_LEAF();
	child = fork();
	if (!child) {
		if (!fork()) {
			unsigned int wrong = read(go[0], &byte, 1) != 1;

			wrong += call_many();
			byte = !!wrong;
			_exit(write(done[1], &byte, 1) != 1);
		}
		_exit(0);
	}
	ASSERT_EQ(0, exit_status(child));
	ASSERT_EQ(1, write(go[1], &byte, 1));
	ASSERT_EQ(1, read(done[0], &byte, 1));
	EXPECT_EQ(0, byte);
	EXPECT_CALLS(id, OF_CHILD(CALLS));

	/* The probe is unregistered before the child is created. */
	UNPROBE(id);
	ASSERT_TRUE(target_start(&target));
	EXPECT_TRUE(text_is_clean(target.pid));
	EXPECT_EQ(300, target_call(&target, returns_leaf, 1, 2, 100));
	EXPECT_EQ(0, target_stop(&target));
}

/* Unregistering removes the probe from all processes. */
TEST_F_TIMEOUT(module, unregistered, TIMEOUT)
{
	enum { CHILDREN = 8 };
	struct target target[CHILDREN];
	unsigned int i;
	int id, other;

	id = PROBE_LEAF();
	other = PROBE_HOW(OF(probed_lea), .flags = UPROBES_TEST_TASK | variant->flags);
	for (i = 0; i < CHILDREN; i++) {
		ASSERT_TRUE(target_start(&target[i]));
		EXPECT_EQ(300, target_call(&target[i], returns_leaf, 1, 2, 100));
		EXPECT_EQ(variant->flags ? 0 : 1,
			  text_is_of_file(target[i].pid, probed_nop, 4096) &&
			  page_is_of_file(target[i].pid, probed_nop));
	}
	EXPECT_CALLS(id, OF_CHILD(100 * CHILDREN));
	UNPROBE(id);
	for (i = 0; i < CHILDREN; i++) {
		EXPECT_TRUE(text_is_clean(target[i].pid));
		EXPECT_TRUE(page_is_of_file(target[i].pid, returns_at_once));
		EXPECT_EQ(300, target_call(&target[i], returns_leaf, 1, 2, 100));
		EXPECT_EQ(300, target_call(&target[i], probed_lea, 1, 2, 100));
	}
	EXPECT_EQ(OF_CHILD(100 * CHILDREN), HITS(other));
	/*
	 * Some children exit before that: the last ones, because they hold the pipes of the others.
	 */
	for (i = CHILDREN - 1; i >= CHILDREN / 2; i--)
		EXPECT_EQ(0, target_stop(&target[i]));
	UNPROBE(other);
	for (; i < CHILDREN; i--) {
		EXPECT_TRUE(text_is_of_file(target[i].pid, probed_nop, 4096));
		EXPECT_TRUE(page_is_of_file(target[i].pid, probed_nop));
		EXPECT_EQ(0, target_stop(&target[i]));
	}
	EXPECT_TRUE(text_is_clean(getpid()));
}

/*
 * The handler of one process misbehaves, so a worker removes the probe from all processes. When
 * unregistering returns, the text is the program's, even if the worker is still running.
 */
TEST_F_TIMEOUT(module, unregistered_and_disarmed, TIMEOUT)
{
	enum { CHILDREN = 8 };
	struct target target[CHILDREN];
	unsigned int i, round, rounds = scaled(10);

	for (round = 0; round < rounds; round++) {
		int id = PROBE_HOW(OF(probed_lea), .flags = UPROBES_TEST_TASK | variant->flags,
				   .act_in = UPROBES_TEST_TASK, .act = UPROBES_TEST_ACT_IRQS_OFF);

		for (i = 0; i < CHILDREN; i++)
			ASSERT_TRUE(target_start(&target[i]));
		EXPECT_EQ(3, probed_lea(1, 2));
		/* The worker begins with this process. */
		while (byte_at(probed_lea) == 0xcc)
			;
		UNPROBE(id);
		for (i = 0; i < CHILDREN; i++)
			EXPECT_TRUE(page_is_of_file(target[i].pid, probed_nop));
		EXPECT_TRUE(page_is_of_file(getpid(), probed_nop));
		/* Stop the last ones first, because they hold the pipes of the others. */
		while (i--)
			EXPECT_EQ(0, target_stop(&target[i]));
	}
}

/* A child runs in its parent's memory until it executes another program. */
TEST_F_TIMEOUT(module, vfork_and_exec, TIMEOUT)
{
	int id = PROBE_LEAF();
	unsigned int i;

	for (i = 1; i <= 10; i++) {
		pid_t child = vfork();

		if (!child) {
			if (call_many())
				_exit(2);
			execl("/bin/true", "true", NULL);
			_exit(1);
		}
		ASSERT_EQ(0, exit_status(child));
		EXPECT_EQ(0, call_many());
		EXPECT_CALLS(id, i * CALLS + i * OF_CHILD(CALLS));
	}
	UNPROBE(id);
	EXPECT_TRUE(text_is_clean(getpid()));
}

static alignas(16) char stack[65536];

static int share(void *arg)
{
	return call_many() ? 1 : 0;
}

TEST_F_TIMEOUT(module, shared_memory, TIMEOUT)
{
	int id = PROBE_LEAF();
	unsigned int i;

	for (i = 1; i <= 10; i++) {
		pid_t sharer = clone(share, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);

		ASSERT_LT(0, sharer);
		EXPECT_EQ(0, call_many());
		ASSERT_EQ(0, exit_status(sharer));
		EXPECT_EQ(0, call_many());
		EXPECT_CALLS(id, 2 * i * CALLS + i * OF_CHILD(CALLS));
	}
	UNPROBE(id);
	EXPECT_TRUE(text_is_clean(getpid()));
	EXPECT_TRUE(page_is_of_file(getpid(), returns_at_once));
}

/* The child executes this program again. The new image is not probed. */
static void __attribute__((constructor)) begin(void)
{
	if (getenv("UPROBES_FOLLOW_EXEC"))
		_exit(call_many() || !text_is_clean(getpid()) ? 5 : 0);
}

TEST_F_TIMEOUT(module, exec_in_child, TIMEOUT)
{
	int id = PROBE_LEAF();
	pid_t child = fork();

	if (!child) {
		if (call_many())
			_exit(2);
		setenv("UPROBES_FOLLOW_EXEC", "1", 1);
		execl("/proc/self/exe", "follow", NULL);
		_exit(1);
	}
	ASSERT_EQ(0, exit_status(child));
	EXPECT_EQ(0, call_many());
	EXPECT_CALLS(id, CALLS + OF_CHILD(CALLS));
	UNPROBE(id);
}

/* A call that returns in the parent and in the child. The return in the child is not known. */
static pid_t forked;

static unsigned long fork_inside(unsigned long base, unsigned long add)
{
	forked = fork();
	return base + add;
}

TEST_F_TIMEOUT(module, forked_inside, TIMEOUT)
{
	int id = PROBE_HOW(OF(fork_inside), .flags = UPROBES_TEST_RETURN | variant->flags);

	EXPECT_EQ(3, call_probed(fork_inside, 1, 2));
	if (!forked) {
		unsigned int wrong = call_probed(returns_leaf, 1, 2) != 3;

		/* A call with a known return. */
		wrong += call_probed(fork_inside, 3, 4) != 7;
		if (!forked)
			_exit(wrong);
		_exit(exit_status(forked) || wrong);
	}
	EXPECT_EQ(0, exit_status(forked));
	EXPECT_EQ(1 + OF_CHILD(1), COUNT(id).return_hits);
	UNPROBE(id);
}

static atomic_bool stop;
static atomic_uint wrong;

static void *fork_until_stop(void *arg)
{
	while (!stop) {
		pid_t child = fork();

		if (!child) {
			pid_t grandchild = fork();

			if (!grandchild)
				_exit(call_many() ? 1 : 0);
			_exit(call_many() || exit_status(grandchild) ? 1 : 0);
		}
		wrong += exit_status(child) != 0;
		wrong += call_many();
	}
	return NULL;
}

/* Probes are registered and unregistered while processes are created and exit. */
TEST_F_TIMEOUT(module, storm, TIMEOUT)
{
	unsigned int i, rounds = scaled(200);
	pthread_t thread[3];

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, fork_until_stop, NULL));
	for (i = 0; i < rounds; i++) {
		int id = PROBE_LEAF(), other = PROBE_LEAF();

		UNPROBE(id);
		if (i % 10 == 0)
			sleep_ms(5);
		UNPROBE(other);
	}
	stop = true;
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	EXPECT_EQ(0, wrong);
	EXPECT_TRUE(text_is_clean(getpid()));
	EXPECT_TRUE(page_is_of_file(getpid(), returns_at_once));
}

TEST_HARNESS_MAIN
