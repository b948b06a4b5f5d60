// SPDX-License-Identifier: GPL-2.0
/* Probes that come and go, and processes that exit, while threads are inside the function. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "module_fixture.h"
#include "returns_text.h"

static atomic_int inside, go;

static unsigned long wait_inside(unsigned long base, unsigned long add)
{
	inside++;
	while (!go)
		sched_yield();
	return base + add;
}

static void *call_and_wait(void *arg)
{
	return (void *)call_probed(wait_inside, (unsigned long)arg, 1000);
}

#define THREADS	8

static void start_inside(struct __test_metadata *_metadata, pthread_t *thread)
{
	unsigned long i;

	inside = 0;
	go = 0;
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, call_and_wait, (void *)i));
	while (inside < THREADS)
		sched_yield();
}

static void end_inside(struct __test_metadata *_metadata, pthread_t *thread)
{
	unsigned long i;
	void *got;

	go = 1;
	for (i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(thread[i], &got));
		EXPECT_EQ(1000 + i, (unsigned long)got);
	}
}

TEST_F_TIMEOUT(module, removed_while_inside, TIMEOUT)
{
	int id = PROBE_BOTH(call_probed);
	pthread_t thread[THREADS];

	start_inside(_metadata, thread);
	EXPECT_EQ(THREADS, HITS(id));
	UNPROBE(id);
	EXPECT_TRUE(text_is_of_file(getpid(), call_probed, 64));
	end_inside(_metadata, thread);

	/* After a new registration, the returns of earlier calls are not counted. */
	id = PROBE_BOTH(call_probed);
	start_inside(_metadata, thread);
	UNPROBE(id);
	id = PROBE_BOTH(call_probed);
	end_inside(_metadata, thread);
	EXPECT_EQ(0, RETURNS(id));
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_EQ(1, RETURNS(id));
	UNPROBE(id);
}

TEST_F_TIMEOUT(module, registered_while_inside, TIMEOUT)
{
	pthread_t thread[THREADS];
	int id, other;

	start_inside(_metadata, thread);
	id = PROBE_BOTH(call_probed);
	end_inside(_metadata, thread);
	EXPECT_EQ(0, HITS(id));
	EXPECT_EQ(0, RETURNS(id));

	/* Another probe is registered while the first one waits for the returns. */
	start_inside(_metadata, thread);
	other = PROBE_BOTH(call_probed);
	end_inside(_metadata, thread);
	EXPECT_EQ(THREADS, RETURNS(id));
	EXPECT_EQ(0, RETURNS(other));
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_EQ(THREADS + 1, RETURNS(id));
	EXPECT_EQ(1, RETURNS(other));
	UNPROBE(id);
	UNPROBE(other);
}

/* By its size, the function's returns are detected whenever the function was entered. */
TEST_F_TIMEOUT(module, sized_while_inside, TIMEOUT)
{
	size_t size = (size_t)(call_probed_return + 5 - (const char *)call_probed);
	pthread_t thread[THREADS];
	int id;

	start_inside(_metadata, thread);
	id = PROBE_HOW(OF(call_probed), .flags = UPROBES_TEST_RETURN, .size = size);
	end_inside(_metadata, thread);
	EXPECT_EQ(THREADS, RETURNS(id));
	UNPROBE(id);
}

static struct shared {
	atomic_int inside;
} *shared;

static unsigned long wait_for_ever(unsigned long base, unsigned long add)
{
	shared->inside++;
	for (;;)
		pause();
	return base + add;
}

static void *wait_in_thread(void *arg)
{
	return (void *)call_probed(wait_for_ever, 0, 0);
}

static void child_waits(void)
{
	pthread_t thread;
	unsigned int i;

	while (shared->inside < 0)
		sched_yield();
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, wait_in_thread, NULL))
			_exit(1);
	for (;;)
		pause();
}

/* The whole process is killed with calls that have not returned. */
TEST_F_TIMEOUT(module, killed_inside, TIMEOUT)
{
	unsigned int i;

	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, shared);
	for (i = 0; i < 10; i++) {
		int status = -1, id;
		pid_t child;

		shared->inside = -1;
		child = fork();
		if (!child)
			child_waits();
		id = PROBE_HOW(.pid = child, OF(call_probed),
			       .flags = UPROBES_TEST_TASK | UPROBES_TEST_RETURN);
		shared->inside = 0;
		while (shared->inside < THREADS)
			sched_yield();
		ASSERT_EQ(0, kill(child, SIGKILL));
		/* Wait and unregister in either order. */
		if (i % 2)
			ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(THREADS, HITS(id));
		EXPECT_EQ(0, RETURNS(id));
		UNPROBE(id);
		if (!(i % 2))
			ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(SIGKILL, status);
	}
}

TEST_HARNESS_MAIN
