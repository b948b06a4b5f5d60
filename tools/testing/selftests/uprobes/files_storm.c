// SPDX-License-Identifier: GPL-2.0
/*
 * Processes that call probed functions, fork, execute programs and map the file,
 * while probes of the file and of processes come and go. Takes two seconds, or
 * STORM_SECONDS.
 */
#include <pthread.h>

#include "files_calls.h"

#define WORKERS	6

struct shared {
	bool stop;
	bool failed;
	unsigned long calls;
};

static void count(struct shared *shared, unsigned int calls)
{
	__atomic_fetch_add(&shared->calls, calls, __ATOMIC_RELAXED);
}

static bool stopped(struct shared *shared)
{
	return __atomic_load_n(&shared->stop, __ATOMIC_RELAXED);
}

static void check(struct shared *shared, bool good)
{
	if (!good)
		__atomic_store_n(&shared->failed, true, __ATOMIC_RELAXED);
}

/* Calls the function, and returns whether all results were right. */
static bool call_counted(struct shared *shared, probed_fn fn, unsigned int times)
{
	count(shared, times);
	return call(fn, times) == times * 7UL;
}

static void call_in_child(struct shared *shared)
{
	int status = -1;
	pid_t child = fork();

	if (!child)
		_exit(call_counted(shared, probed_nop, 5) ? 0 : 1);
	waitpid(child, &status, 0);
	check(shared, status == 0);
}

static void call_after_vfork(struct shared *shared)
{
	int status = -1;
	pid_t child;

	count(shared, 1);
	child = vfork();
	if (!child)
		_exit(call_probed(probed_nop, 3, 4) == 7 ? 0 : 1);
	waitpid(child, &status, 0);
	check(shared, status == 0);
}

static void call_in_new_mapping(struct shared *shared)
{
	size_t page = sysconf(_SC_PAGESIZE);
	void *map = map_again(probed_nop, NULL);

	count(shared, 2);
	check(shared, map && ((probed_fn)map)(3, 4) == 7 && ((probed_fn)map)(3, 4) == 7);
	munmap((void *)((unsigned long)map & -page), page);
}

/* Where one thread of a worker maps the function and unmaps it again. */
#define FIXED	((void *)0x200000000000UL)

static void *map_in_thread(void *arg)
{
	struct shared *shared = arg;
	size_t page = sysconf(_SC_PAGESIZE);

	while (!stopped(shared)) {
		check(shared, map_again(probed_nop, FIXED));
		munmap(FIXED, page);
	}
	return NULL;
}

/* The child may have the mapping before the thread that made it has returned to user mode. */
static void call_mapping_in_child(struct shared *shared)
{
	size_t page = sysconf(_SC_PAGESIZE);
	int status = -1;
	pid_t child = fork();

	if (!child) {
		probed_fn fn = FIXED + (unsigned long)probed_nop % page;

		if (msync(FIXED, page, MS_ASYNC))
			_exit(0);
		count(shared, 1);
		_exit(fn(3, 4) == 7 ? 0 : 1);
	}
	waitpid(child, &status, 0);
	check(shared, status == 0);
}

static void call_in_program(struct shared *shared)
{
	count(shared, 5);
	check(shared, execute(5) == 0);
}

static void *call_in_thread(void *arg)
{
	struct shared *shared = arg;

	while (!stopped(shared)) {
		check(shared, call_counted(shared, probed_nop, 20));
		/* This function has a probe now and then. */
		check(shared, call(probed_push, 20) == 20 * 7UL);
	}
	return NULL;
}

static void work(struct shared *shared)
{
	pthread_t caller, mapper;
	unsigned int round;

	check(shared, !pthread_create(&caller, NULL, call_in_thread, shared));
	check(shared, !pthread_create(&mapper, NULL, map_in_thread, shared));
	for (round = 0; !stopped(shared); round++) {
		call_in_child(shared);
		call_in_new_mapping(shared);
		call_after_vfork(shared);
		call_mapping_in_child(shared);
		if (round % 8 == 0)
			call_in_program(shared);
	}
	pthread_join(caller, NULL);
	pthread_join(mapper, NULL);
}

TEST_F_TIMEOUT(events, storm, TIMEOUT + 660)
{
	const char *env = getenv("STORM_SECONDS");
	uint64_t end = now_ms() + 1000 * (env ? atoi(env) : 2);
	struct shared *shared;
	pid_t workers[WORKERS];
	unsigned int i, rounds = 0;
	int status;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	ASSERT_NE(MAP_FAILED, shared);
	/* Only the counts matter. */
	ASSERT_EQ(0, tracefs_replace("tracing_on", "0"));
	ASSERT_EQ(0, place_file("p", "hit", probed_nop, ""));
	ASSERT_EQ(0, place_file("r", "ret", probed_nop, ""));
	for (i = 0; i < WORKERS; i++) {
		workers[i] = fork();
		if (!workers[i]) {
			work(shared);
			_exit(0);
		}
	}
	ASSERT_EQ(0, file_event("p", "guest", probed_push, ""));
	ASSERT_EQ(0, file_event("r", "guest_ret", probed_push, ""));
	ASSERT_EQ(0, tracefs_append("uprobe_events", "p:selftest/process %d:%p", workers[0],
				    probed_nop));
	while (now_ms() < end) {
		EXPECT_EQ(0, enable("guest", true));
		EXPECT_EQ(0, enable("process", true));
		EXPECT_EQ(0, enable("guest_ret", rounds % 2));
		EXPECT_EQ(0, enable("guest", false));
		EXPECT_EQ(0, enable("process", false));
		rounds++;
	}
	EXPECT_EQ(0, enable("guest_ret", false));
	__atomic_store_n(&shared->stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < WORKERS; i++) {
		status = -1;
		waitpid(workers[i], &status, 0);
		EXPECT_EQ(0, status);
	}
	EXPECT_FALSE(shared->failed);
	EXPECT_EQ(shared->calls, file_hits("hit"));
	EXPECT_EQ(shared->calls, file_hits("ret"));
	TH_LOG("%lu calls, %u rounds", shared->calls, rounds);
	ASSERT_EQ(0, enable("hit", false));
	ASSERT_EQ(0, enable("ret", false));
	EXPECT_TRUE(page_is_of_file(self->target.pid, probed_nop));
	EXPECT_TRUE(page_is_of_file(self->target.pid, probed_push));
	ASSERT_EQ(0, tracefs_replace("tracing_on", "1"));
}

TEST_HARNESS_MAIN
