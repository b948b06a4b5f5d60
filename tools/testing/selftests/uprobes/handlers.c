// SPDX-License-Identifier: GPL-2.0
/* Handlers that unregister and register probes, and unregistering in every state. */
#include <pthread.h>
#include <stdatomic.h>

#include "module_fixture.h"
#include "returns_text.h"

/* The consumer frees its probe when it is notified that no handler is called any more. */
#define FREES	(UPROBES_TEST_NOTIFY | UPROBES_TEST_FREE)
#define LINGER	300000	/* usec */

struct which {
	const char *name;
	unsigned int handler;
	unsigned long size;
};

/* One entry for each kind of handler. */
static const struct which kinds[] = {
	{ "task", UPROBES_TEST_TASK, 0 },
	{ "interrupt", UPROBES_TEST_INTERRUPT, 0 },
	{ "return", UPROBES_TEST_RETURN, 0 },
	{ "return by size", UPROBES_TEST_RETURN, 5 },
};

#define KINDS	(sizeof(kinds) / sizeof(*kinds))

static unsigned long long hits_of(const struct uprobes_test_count *count)
{
	return count->task_hits + count->interrupt_hits + count->return_hits;
}

TEST_F_TIMEOUT(module, unregisters_itself, TIMEOUT)
{
	unsigned int i, round;

	ASSERT_EQ(kinds[3].size, SIZE_OF(returns_leaf));
	for (i = 0; i < KINDS; i++) {
		for (round = 0; round < 20; round++) {
			int id = PROBE_HOW(OF(returns_leaf), .flags = kinds[i].handler | FREES,
					   .size = kinds[i].size, .act_in = kinds[i].handler,
					   .act = UPROBES_TEST_ACT_UNREGISTER);
			struct uprobes_test_count count;

			ASSERT_EQ(3, call_probed(returns_leaf, 1, 2));
			ASSERT_EQ(3, call_probed(returns_leaf, 1, 2));
			ASSERT_TRUE(dev_notified(self->dev, id)) TH_LOG("%s", kinds[i].name);
			ASSERT_EQ(3, call_probed(returns_leaf, 1, 2));
			count = COUNT(id);
			ASSERT_EQ(1, hits_of(&count));
			ASSERT_EQ(1, count.notified);
			ASSERT_TRUE(text_is_of_file(getpid(), returns_at_once, 4096));
			UNPROBE(id);
		}
	}
	EXPECT_TRUE(page_is_of_file(getpid(), returns_at_once));
	EXPECT_TRUE(page_is_of_file(getpid(), call_probed));
}

/* All handlers of the probe unregister it, which is once too often. */
TEST_F_TIMEOUT(module, unregisters_itself_twice, TIMEOUT)
{
	unsigned int flags = UPROBES_TEST_TASK | UPROBES_TEST_INTERRUPT;
	int id = PROBE_HOW(OF(probed_lea), .flags = flags | UPROBES_TEST_NOTIFY, .act_in = flags,
			   .act = UPROBES_TEST_ACT_UNREGISTER);

	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_TRUE(dev_notified(self->dev, id));
	EXPECT_EQ(1, COUNT(id).interrupt_hits);
	EXPECT_EQ(0, HITS(id));
	UNPROBE(id);
}

/* The other consumers at the address are called as before, in their order. */
TEST_F_TIMEOUT(module, others_stay, TIMEOUT)
{
	unsigned int i;

	for (i = 0; i < 20; i++) {
		int first = PROBE(probed_lea);
		int id = PROBE_HOW(OF(probed_lea), .flags = UPROBES_TEST_TASK | FREES,
				   .act_in = UPROBES_TEST_TASK,
				   .act = UPROBES_TEST_ACT_UNREGISTER);
		int last = PROBE(probed_lea);

		EXPECT_EQ(3, probed_lea(1, 2));
		EXPECT_EQ(3, probed_lea(1, 2));
		EXPECT_EQ(1, HITS(id));
		EXPECT_EQ(2, HITS(first));
		EXPECT_EQ(2, HITS(last));
		EXPECT_LT(COUNT(first).task_sequence, COUNT(last).task_sequence);
		EXPECT_TRUE(dev_notified(self->dev, id));
		EXPECT_EQ(3, probed_lea(1, 2));
		EXPECT_EQ(3, HITS(first));
		EXPECT_EQ(3, HITS(last));
		UNPROBE(id);
		UNPROBE(first);
		UNPROBE(last);
	}
}

TEST_F_TIMEOUT(module, unregisters_another, TIMEOUT)
{
	static const probed_fn places[] = { probed_lea, returns_leaf };
	unsigned int i, j;

	for (i = 0; i < KINDS; i++) {
		for (j = 0; j < 2; j++) {
			int other = PROBE_HOW(OF(places[j]), .flags = UPROBES_TEST_TASK | FREES);
			int id = PROBE_HOW(OF(returns_leaf), .flags = kinds[i].handler,
					   .size = kinds[i].size, .act_in = kinds[i].handler,
					   .act = UPROBES_TEST_ACT_UNREGISTER_OTHER,
					   .other = other);
			struct uprobes_test_count count;
			long long before;

			EXPECT_EQ(3, probed_lea(1, 2));
			EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
			ASSERT_TRUE(dev_notified(self->dev, other)) TH_LOG("%s", kinds[i].name);
			before = HITS(other);
			EXPECT_GE(1, before);
			EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
			EXPECT_EQ(3, places[j](1, 2));
			EXPECT_EQ(before, HITS(other));
			count = COUNT(id);
			EXPECT_EQ(j ? 3 : 2, hits_of(&count));
			UNPROBE(other);
			UNPROBE(id);
		}
	}
}

/* A handler in task context may register a probe, because it may sleep. */
TEST_F_TIMEOUT(module, registers_another, TIMEOUT)
{
	static const unsigned int handlers[] = { UPROBES_TEST_TASK, UPROBES_TEST_RETURN };
	unsigned int i;

	for (i = 0; i < 2; i++) {
		int other = PROBE_HOW(OF(probed_lea), .flags = UPROBES_TEST_TASK |
				      UPROBES_TEST_RETURN | UPROBES_TEST_PREPARE |
				      UPROBES_TEST_BY_TASK);
		int id;

		EXPECT_EQ(-ENOENT, COUNT(other).counts_error);
		id = PROBE_HOW(OF(returns_leaf), .flags = handlers[i], .act_in = handlers[i],
			       .act = UPROBES_TEST_ACT_REGISTER_OTHER, .other = other);
		EXPECT_EQ(3, call_probed(probed_lea, 1, 2));
		EXPECT_EQ(0, HITS(other));
		EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
		EXPECT_EQ(0, COUNT(id).act_result);
		EXPECT_EQ(3, call_probed(probed_lea, 1, 2));
		EXPECT_EQ(1, HITS(other));
		EXPECT_EQ(1, COUNT(other).return_hits);
		/* The probe is already registered. */
		EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
		EXPECT_EQ(-EBUSY, COUNT(id).act_result);
		UNPROBE(id);
		UNPROBE(other);
	}
}

/* A handler cannot register by pid, because it runs in the context of the probed thread. */
TEST_F_TIMEOUT(module, registers_by_number, TIMEOUT)
{
	int other = PROBE_HOW(OF(probed_lea), .flags = UPROBES_TEST_TASK | UPROBES_TEST_PREPARE);
	int id = PROBE_HOW(OF(returns_leaf), .flags = UPROBES_TEST_TASK,
			   .act_in = UPROBES_TEST_TASK,
			   .act = UPROBES_TEST_ACT_REGISTER_OTHER, .other = other);

	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_EQ(-EOPNOTSUPP, COUNT(id).act_result);
	EXPECT_EQ(3, call_probed(probed_lea, 1, 2));
	EXPECT_EQ(0, HITS(other));
	UNPROBE(id);
	UNPROBE(other);
}

static void *call_once(void *arg)
{
	return (void *)(call_probed(arg, 1, 2) - 3);
}

static void wait_for_hit(struct __test_metadata *_metadata, int dev, int id)
{
	uint64_t end = now_ms() + 20000;

	while (dev_hits(dev, id) < 1 && now_ms() < end)
		sched_yield();
	ASSERT_EQ(1, dev_hits(dev, id));
}

/* Other callers wait while a handler that has unregistered its probe is still running. */
static void waits(struct __test_metadata *_metadata, int dev, unsigned int flags)
{
	struct uprobes_test_register how = {
		.pid = getpid(),
		.vaddr = (unsigned long)probed_lea,
		.flags = UPROBES_TEST_TASK | flags,
		.act_in = UPROBES_TEST_TASK,
		.act = UPROBES_TEST_ACT_UNREGISTER,
		.linger_usec = LINGER,
	};
	int id = dev_register_how(dev, &how);
	struct uprobes_test_count count;
	uint64_t start = now_ms();
	pthread_t thread;
	void *wrong;

	ASSERT_LT(0, id);
	ASSERT_EQ(0, pthread_create(&thread, NULL, call_once, probed_lea));
	wait_for_hit(_metadata, dev, id);
	/* The structure is busy until then. */
	EXPECT_EQ(-EBUSY, dev_again(dev, id));
	ASSERT_EQ(0, dev_end(dev, id));
	EXPECT_LE(LINGER / 1000, now_ms() - start);
	ASSERT_EQ(0, dev_count(dev, id, &count));
	EXPECT_EQ(0, count.active);
	EXPECT_EQ(!!flags, count.notified);
	EXPECT_EQ(-ENOENT, count.counts_error);
	ASSERT_EQ(0, pthread_join(thread, &wrong));
	EXPECT_EQ(NULL, wrong);
	ASSERT_EQ(0, dev_unregister(dev, id));
}

TEST_F_TIMEOUT(module, waits_for_deferred, TIMEOUT)
{
	waits(_metadata, self->dev, 0);
	waits(_metadata, self->dev, UPROBES_TEST_NOTIFY);
}

/* A handler unregisters a probe while another thread is in a handler of that probe. */
TEST_F_TIMEOUT(module, does_not_wait_for_another, TIMEOUT)
{
	int other = PROBE_HOW(OF(probed_lea), .flags = UPROBES_TEST_TASK | FREES,
			      .linger_usec = LINGER);
	int id = PROBE_HOW(OF(returns_leaf), .flags = UPROBES_TEST_INTERRUPT,
			   .act_in = UPROBES_TEST_INTERRUPT,
			   .act = UPROBES_TEST_ACT_UNREGISTER_OTHER, .other = other);
	uint64_t start = now_ms();
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, call_once, probed_lea));
	wait_for_hit(_metadata, self->dev, other);
	EXPECT_EQ(3, returns_leaf(1, 2));
	EXPECT_EQ(1, COUNT(other).active);
	EXPECT_EQ(0, COUNT(other).notified);
	EXPECT_TRUE(dev_notified(self->dev, other));
	EXPECT_LE(LINGER / 1000, now_ms() - start);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	UNPROBE(id);
	UNPROBE(other);
}

static atomic_bool stop;
static atomic_ulong wrong_results;

static void *call_until_stop(void *arg)
{
	while (!stop)
		wrong_results += call_probed(arg, 1, 2) != 3;
	return NULL;
}

/* Several threads hit the probe at the same time, and all of them unregister it. */
TEST_F_TIMEOUT(module, all_unregister, TIMEOUT)
{
	unsigned int i, rounds = scaled(200);
	pthread_t thread[4];

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, call_until_stop, returns_leaf));
	for (i = 0; i < rounds; i++) {
		const struct which *kind = &kinds[i % KINDS];
		unsigned int flags = kind->handler | (i / KINDS % 2 ? FREES : UPROBES_TEST_NOTIFY);
		int id = PROBE_HOW(OF(returns_leaf), .flags = flags, .size = kind->size,
				   .act_in = kind->handler,
				   .act = UPROBES_TEST_ACT_UNREGISTER);

		/* In every third round this thread unregisters the probe without waiting. */
		if (i % 3)
			ASSERT_TRUE(dev_notified(self->dev, id));
		UNPROBE(id);
	}
	stop = true;
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	EXPECT_EQ(0, wrong_results);
	EXPECT_TRUE(text_is_of_file(getpid(), returns_at_once, 4096));
}

/* The consumer's file is closed while a handler that has unregistered its probe is running. */
TEST_F_TIMEOUT(module, client_goes, TIMEOUT)
{
	static const unsigned int flags[] = { 0, UPROBES_TEST_NOTIFY, FREES };
	unsigned int i;

	for (i = 0; i < 3; i++) {
		int id = PROBE_HOW(OF(probed_lea), .flags = UPROBES_TEST_TASK | flags[i],
				   .act_in = UPROBES_TEST_TASK, .linger_usec = LINGER,
				   .act = UPROBES_TEST_ACT_UNREGISTER);
		pthread_t thread;

		ASSERT_EQ(0, pthread_create(&thread, NULL, call_once, probed_lea));
		wait_for_hit(_metadata, self->dev, id);
		close(self->dev);
		self->dev = dev_open();
		ASSERT_LE(0, self->dev);
		EXPECT_TRUE(dev_clean(self->dev));
		ASSERT_EQ(0, pthread_join(thread, NULL));
	}
}

TEST_F_TIMEOUT(module, unregistered_again, TIMEOUT)
{
	struct target target;
	unsigned int i;
	int id;

	/* A probe that was never registered. */
	id = PROBE_HOW(OF(probed_lea), .flags = UPROBES_TEST_TASK | UPROBES_TEST_PREPARE);
	EXPECT_EQ(0, dev_end(self->dev, id));
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(0, HITS(id));
	UNPROBE(id);

	/* Unregistering a second time has no effect. */
	id = PROBE(probed_lea);
	EXPECT_EQ(3, probed_lea(1, 2));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, dev_end(self->dev, id));
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(1, HITS(id));
	EXPECT_EQ(-ENOENT, COUNT(id).counts_error);
	UNPROBE(id);

	/* The process has exited. */
	ASSERT_TRUE(target_start(&target));
	id = PROBE_HOW(.pid = target.pid, OF(probed_lea), .flags = UPROBES_TEST_TASK);
	EXPECT_EQ(300, target_call(&target, probed_lea, 1, 2, 100));
	EXPECT_EQ(0, target_stop(&target));
	EXPECT_EQ(100, COUNT(id).hits);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, dev_end(self->dev, id));
	EXPECT_EQ(-ESRCH, dev_again(self->dev, id));
	UNPROBE(id);
}

/* The same structure is registered again after the caller or a handler has unregistered it. */
TEST_F_TIMEOUT(module, registered_again, TIMEOUT)
{
	int id = PROBE(probed_lea);
	unsigned int i;

	for (i = 1; i <= 10; i++) {
		EXPECT_EQ(3, probed_lea(1, 2));
		EXPECT_EQ(i, HITS(id));
		EXPECT_EQ(1, COUNT(id).hits);
		EXPECT_EQ(-EBUSY, dev_again(self->dev, id));
		EXPECT_EQ(0, dev_end(self->dev, id));
		EXPECT_EQ(0, dev_again(self->dev, id));
	}
	UNPROBE(id);

	id = PROBE_HOW(OF(probed_lea), .flags = UPROBES_TEST_TASK | UPROBES_TEST_NOTIFY,
		       .act_in = UPROBES_TEST_TASK, .act = UPROBES_TEST_ACT_UNREGISTER);
	for (i = 1; i <= 10; i++) {
		int ret;

		EXPECT_EQ(3, probed_lea(1, 2));
		EXPECT_EQ(3, probed_lea(1, 2));
		EXPECT_EQ(i, HITS(id));
		/*
		 * Registering returns -EBUSY until the callback is called, and then waits for it.
		 */
		do
			ret = dev_again(self->dev, id);
		while (ret == -EBUSY);
		ASSERT_EQ(0, ret);
		EXPECT_EQ(i, COUNT(id).notified);
	}
	UNPROBE(id);
}

static int raced_dev, raced_id;

static void *register_until_stop(void *arg)
{
	while (!stop) {
		int ret = dev_again(raced_dev, raced_id);

		wrong_results += ret && ret != -EBUSY;
	}
	return NULL;
}

static void *unregister_until_stop(void *arg)
{
	while (!stop)
		wrong_results += dev_end(raced_dev, raced_id) != 0;
	return NULL;
}

/* Several threads register and unregister one structure, and its handler unregisters it. */
TEST_F_TIMEOUT(module, races, TIMEOUT)
{
	void *(*const functions[])(void *) = {
		register_until_stop, register_until_stop, unregister_until_stop,
		unregister_until_stop, call_until_stop, call_until_stop,
	};
	unsigned int i, round;

	raced_dev = self->dev;
	for (round = 0; round < 2 * KINDS; round++) {
		const struct which *kind = &kinds[round / 2];
		pthread_t thread[6];

		raced_id = PROBE_HOW(OF(returns_leaf), .flags = kind->handler | UPROBES_TEST_NOTIFY,
				     .size = kind->size, .act_in = round % 2 ? kind->handler : 0,
				     .act = UPROBES_TEST_ACT_UNREGISTER);
		stop = false;
		for (i = 0; i < 6; i++)
			ASSERT_EQ(0, pthread_create(&thread[i], NULL, functions[i], returns_leaf));
		sleep_ms(1000);
		stop = true;
		for (i = 0; i < 6; i++)
			ASSERT_EQ(0, pthread_join(thread[i], NULL));
		EXPECT_EQ(0, wrong_results);
		EXPECT_EQ(0, dev_end(self->dev, raced_id));
		EXPECT_EQ(0, COUNT(raced_id).active);
		EXPECT_TRUE(text_is_of_file(getpid(), returns_at_once, 4096));
		EXPECT_EQ(0, dev_again(self->dev, raced_id));
		UNPROBE(raced_id);
	}
}

TEST_F_TIMEOUT(module, flags, TIMEOUT)
{
	EXPECT_EQ(-EINVAL, REGISTER(OF(probed_lea),
				    .flags = UPROBES_TEST_TASK | UPROBES_TEST_BAD_FLAG));
	EXPECT_EQ(-EINVAL, REGISTER(OF(probed_lea), .flags = UPROBES_TEST_FILTER));
	EXPECT_EQ(-EINVAL, REGISTER(OF(probed_lea), .flags = UPROBES_TEST_NOTIFY));
	EXPECT_TRUE(text_is_of_file(getpid(), probed_nop, 4096));
}

static void *wait_in_thread(void *arg)
{
	*(atomic_int *)arg = gettid();
	for (;;)
		pause();
	return NULL;
}

/* Registering by task ignores the pid in the structure. */
TEST_F_TIMEOUT(module, by_task, TIMEOUT)
{
	unsigned int flags = UPROBES_TEST_TASK | UPROBES_TEST_BY_TASK;
	int id = PROBE_HOW(OF(probed_lea), .flags = flags);
	atomic_int tid = 0;
	struct target target;
	pthread_t thread;

	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);

	ASSERT_EQ(0, pthread_create(&thread, NULL, wait_in_thread, &tid));
	while (!tid)
		sched_yield();
	id = PROBE_HOW(.pid = tid, OF(probed_lea), .flags = flags);
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);

	ASSERT_TRUE(target_start(&target));
	id = PROBE_HOW(.pid = target.pid, OF(probed_lea), .flags = flags);
	EXPECT_EQ(300, target_call(&target, probed_lea, 1, 2, 100));
	EXPECT_EQ(100, HITS(id));
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(0, target_stop(&target));
	UNPROBE(id);

	/* A kernel thread. */
	EXPECT_EQ(-EINVAL, REGISTER(.pid = 2, OF(probed_lea), .flags = flags));
}

TEST_HARNESS_MAIN
