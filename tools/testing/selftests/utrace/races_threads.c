// SPDX-License-Identifier: GPL-2.0
/* Engines attached and detached while a hundred threads are created and exit. */
#include <pthread.h>

#include "device_fixture.h"

#define THREADS	100

static void *live_shortly(void *arg)
{
	shared->turns++;
	return NULL;
}

/* Creates short-lived threads, a hundred at a time. */
static long come_and_go(long generations)
{
	pthread_t threads[THREADS];
	pthread_attr_t attr;
	long i, made = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	for (i = 0; i < THREADS; i++)
		made += !pthread_create(&threads[i], &attr, live_shortly, NULL);
	if (made < THREADS)
		return -EAGAIN;
	while (generations--) {
		for (i = 0; i < THREADS; i++) {
			pthread_join(threads[i], NULL);
			if (pthread_create(&threads[i], &attr, live_shortly, NULL))
				return -EAGAIN;
			made++;
		}
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return made;
}

#define LIFE	(EVENT(CLONE) | EVENT(EXIT) | EVENT(DEATH) | EVENT(REAP) | EVENT(LAST_EXIT))

/* An engine on the process from its first thread to its last counts each thread once. */
static void expect_all(struct __test_metadata *_metadata, int dev, int id,
		       unsigned long long threads)
{
	struct utrace_test_count count;

	EXPECT_TRUE(calls_reach(dev, id, UTRACE_TEST_REAP, threads + 1));
	ASSERT_EQ(0, dev_count(dev, id, &count));
	EXPECT_EQ(threads, count.calls[UTRACE_TEST_CLONE]);
	EXPECT_EQ(threads + 1, count.calls[UTRACE_TEST_EXIT]);
	EXPECT_EQ(threads + 1, count.calls[UTRACE_TEST_DEATH]);
	EXPECT_EQ(1, count.calls[UTRACE_TEST_LAST_EXIT]);
}

DEVICE_TEST(processes_engines)
{
	unsigned int rounds = 0, generations = scaled(30);
	int all = dev_attach_process(self->dev, self->target.pid, LIFE);
	long threads;

	ASSERT_LT(0, all);
	BEGIN(come_and_go, generations);
	do {
		int id = dev_attach_process(self->dev, self->target.pid, LIFE);

		ASSERT_LT(0, id);
		rounds++;
		drop_records(self->dev);
		if (rounds % 2)
			sleep_ms(1);
		ASSERT_EQ(0, dev_drop(self->dev, id));
	} while (rounds % 16 || target_busy(&self->target));
	threads = END();
	EXPECT_EQ((generations + 1) * THREADS, threads);
	EXPECT_EQ(0, ENDED());
	expect_all(_metadata, self->dev, all, threads);
	TH_LOG("%ld threads, %u times attached", threads, rounds);
}

/* Each thread gets an engine before it runs. The engine ends with the thread, or earlier. */
DEVICE_TEST(engine_on_each_child)
{
	unsigned int generations = scaled(10);
	struct utrace_test_count count;
	int id = ATTACH(EVENT(CLONE)), child;
	unsigned long long exits = 0;
	long threads;

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_CLONE, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_CHILD, .callbacks = UTRACE_TEST_ALL_CALLBACKS,
	       .events = LIFE);
	threads = CALL(come_and_go, generations);
	EXPECT_EQ((generations + 1) * THREADS, threads);
	ASSERT_EQ(0, dev_count(self->dev, id, &count));
	EXPECT_EQ(threads, count.calls[UTRACE_TEST_CLONE]);
	EXPECT_EQ(0, ENDED());
	for (child = id + 1; child <= id + threads; child++) {
		EXPECT_TRUE(calls_reach(self->dev, child, UTRACE_TEST_REAP, 1));
		ASSERT_EQ(0, dev_count(self->dev, child, &count));
		EXPECT_EQ(1, count.calls[UTRACE_TEST_EXIT]);
		EXPECT_EQ(1, count.calls[UTRACE_TEST_DEATH]);
		exits += count.calls[UTRACE_TEST_EXIT];
	}
	EXPECT_EQ(threads, exits);
	TH_LOG("%ld threads", threads);
}

/* An engine repeatedly stops the thread that creates the others. */
DEVICE_TEST(stops)
{
	unsigned int rounds = 0, generations = scaled(20);
	int all = dev_attach_process(self->dev, self->target.pid, LIFE);
	int main_thread = ATTACH(EVENT(QUIESCE));
	long threads;

	ASSERT_LT(0, all);
	BEGIN(come_and_go, generations);
	do {
		int ret = dev_control(self->dev, main_thread, UTRACE_STOP);

		ASSERT_TRUE(ret == 0 || ret == -EINPROGRESS);
		if (++rounds % 4 == 0)
			ASSERT_EQ(0, dev_control(self->dev, main_thread, UTRACE_REPORT));
		ASSERT_EQ(0, dev_control(self->dev, main_thread, UTRACE_RESUME));
		drop_records(self->dev);
	} while (rounds % 64 || target_busy(&self->target));
	threads = END();
	EXPECT_EQ((generations + 1) * THREADS, threads);
	EXPECT_EQ(0, ENDED());
	expect_all(_metadata, self->dev, all, threads);
	TH_LOG("%ld threads, %u stops", threads, rounds);
}

/* The process is killed while its threads are created and exit. */
DEVICE_TEST(killed)
{
	unsigned int i, rounds = scaled(20);

	for (i = 0; i < rounds; i++) {
		struct utrace_test_count count;
		struct target target;
		int a, b;

		ASSERT_TRUE(target_start(&target));
		a = dev_attach_process(self->dev, target.pid, LIFE);
		ASSERT_LT(0, a);
		shared->turns = 0;
		ASSERT_TRUE(target_begin(&target, come_and_go, 1000));
		while (shared->turns < 10 * i + 1)
			;
		b = dev_attach_process(self->dev, target.pid, LIFE);
		ASSERT_LT(0, b);
		ASSERT_EQ(SIGKILL, target_kill(&target));
		EXPECT_TRUE(deaths_settle(self->dev, a, &count));
		EXPECT_EQ(count.calls[UTRACE_TEST_CLONE] + 1, count.calls[UTRACE_TEST_EXIT]);
		EXPECT_EQ(count.calls[UTRACE_TEST_EXIT], count.calls[UTRACE_TEST_DEATH]);
		EXPECT_EQ(1, count.calls[UTRACE_TEST_LAST_EXIT]);
		ASSERT_EQ(0, dev_drop(self->dev, b));
		ASSERT_EQ(0, dev_drop(self->dev, a));
		drop_records(self->dev);
	}
}

/* Each thread creates the next one and exits. An engine that misses one misses all later ones. */
static void *hand_on(void *arg)
{
	pthread_attr_t attr;
	pthread_t next;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	shared->turns++;
	if (shared->go || pthread_create(&next, &attr, hand_on, NULL))
		shared->phase = 1;
	return NULL;
}

static long relay(long arg)
{
	hand_on(NULL);
	while (!shared->phase)
		sleep_ms(1);
	return 0;
}

DEVICE_TEST(relay)
{
	unsigned int i, rounds = scaled(1500);
	struct utrace_test_count count;

	BEGIN(relay, 0);
	for (i = 0; i < rounds; i++) {
		int id = dev_attach_process(self->dev, self->target.pid, EVENT(CLONE));
		unsigned long long turns = shared->turns;
		uint64_t end = now_ms() + 20000;

		ASSERT_LT(0, id);
		/* Of three generations, at least one is created by a thread with the engine. */
		while (shared->turns < turns + 3 && now_ms() < end)
			;
		ASSERT_EQ(0, dev_count(self->dev, id, &count));
		ASSERT_LT(0, count.calls[UTRACE_TEST_CLONE]) TH_LOG("round %u", i);
		ASSERT_EQ(0, dev_drop(self->dev, id));
		drop_records(self->dev);
	}
	TH_LOG("%llu threads", shared->turns);
	shared->go = 1;
	EXPECT_EQ(0, END());
}

TEST_HARNESS_MAIN
