// SPDX-License-Identifier: GPL-2.0
/* Hits of children, of processes that share memory, and of threads. */
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "module_fixture.h"

#define CALLS	1000

/* Returns the number of calls out of CALLS with a wrong result. */
static unsigned int call_many(probed_fn function)
{
	unsigned int i, wrong = 0;

	for (i = 0; i < CALLS; i++)
		wrong += function(i, 7) != i + 7;
	return wrong;
}

static int exit_status(pid_t pid)
{
	int status = -1;

	if (waitpid(pid, &status, __WALL) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Checks the text in a new child. Returns 0, or the number of the failed check. */
static int child_finds(void)
{
	if (byte_at(probed_nop) != 0x90)
		return 1;
	if (call_many(probed_nop) || call_many(probed_lea))
		return 2;
	if (!text_is_of_file(getpid(), probed_nop, 4096))
		return 3;
	return 0;
}

TEST_F_TIMEOUT(module, fork, TIMEOUT)
{
	int nop = PROBE(probed_nop), lea = PROBE(probed_lea);
	unsigned int i;

	for (i = 1; i <= 20; i++) {
		pid_t child = fork();

		if (!child)
			_exit(child_finds());
		ASSERT_EQ(0, exit_status(child));
		EXPECT_EQ(0, call_many(probed_nop));
		EXPECT_EQ(0, call_many(probed_lea));
		EXPECT_EQ(i * CALLS, HITS(nop));
		EXPECT_EQ(i * CALLS, HITS(lea));
	}
	UNPROBE(nop);
	UNPROBE(lea);
	EXPECT_TRUE(text_is_of_file(getpid(), probed_nop, 4096));
	EXPECT_TRUE(page_is_of_file(getpid(), probed_nop));
}

/* The child of a probed process has a probe of its own, and forks. */
TEST_F_TIMEOUT(module, fork_of_fork, TIMEOUT)
{
	int id = PROBE(probed_nop);
	pid_t child = fork();

	if (!child) {
		int own = dev_register(self->dev, getpid(), probed_nop, UPROBES_TEST_TASK);
		pid_t grandchild;

		if (own < 0 || call_many(probed_nop) || dev_hits(self->dev, own) != CALLS)
			_exit(10);
		grandchild = fork();
		if (!grandchild)
			_exit(child_finds());
		if (exit_status(grandchild) || dev_hits(self->dev, own) != CALLS)
			_exit(11);
		_exit(dev_unregister(self->dev, own) ? 12 : child_finds());
	}
	EXPECT_EQ(0, exit_status(child));
	EXPECT_EQ(0, HITS(id));
	UNPROBE(id);
}

static atomic_bool stop;
static atomic_ullong calls;
static atomic_uint wrong;

static void *call_until_stop(void *arg)
{
	probed_fn function = arg;

	while (!stop) {
		wrong += function(1, 2) != 3;
		calls++;
	}
	return NULL;
}

/* Other threads hit the probe while the process forks. */
TEST_F_TIMEOUT(module, fork_while_hit, TIMEOUT)
{
	int id = PROBE(probed_lea);
	unsigned int i, rounds = scaled(100);
	pthread_t thread[2];

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, call_until_stop, probed_lea));
	for (i = 0; i < rounds; i++) {
		pid_t child = fork();

		if (!child)
			_exit(child_finds());
		ASSERT_EQ(0, exit_status(child));
	}
	stop = true;
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(calls, HITS(id));
	UNPROBE(id);
}

/* Probes are registered and unregistered while the process forks. */
static void *register_until_stop(void *arg)
{
	int dev = (long)arg;

	while (!stop) {
		int id = dev_register(dev, getpid(), probed_nop, UPROBES_TEST_TASK);

		wrong += id <= 0 || dev_unregister(dev, id);
	}
	return NULL;
}

TEST_F_TIMEOUT(module, fork_while_registering, TIMEOUT)
{
	unsigned int i, rounds = scaled(200);
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, register_until_stop, (void *)(long)self->dev));
	for (i = 0; i < rounds; i++) {
		pid_t child = fork();

		if (!child)
			_exit(child_finds());
		ASSERT_EQ(0, exit_status(child));
	}
	stop = true;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, wrong);
}

/* A vfork() child runs in its parent's memory, but is another process. */
TEST_F_TIMEOUT(module, vfork_and_exec, TIMEOUT)
{
	int nop = PROBE(probed_nop), lea = PROBE(probed_lea);
	unsigned int i;

	for (i = 1; i <= 10; i++) {
		pid_t child = vfork();

		if (!child) {
			if (call_many(probed_nop) || call_many(probed_lea))
				_exit(2);
			execl("/bin/true", "true", NULL);
			_exit(1);
		}
		ASSERT_EQ(0, exit_status(child));
		EXPECT_EQ(0, call_many(probed_nop));
		EXPECT_EQ(0, call_many(probed_lea));
		EXPECT_EQ(i * CALLS, HITS(nop));
		EXPECT_EQ(i * CALLS, HITS(lea));
	}
	UNPROBE(nop);
	UNPROBE(lea);
}

static alignas(16) char stack[65536];

static int share(void *arg)
{
	return call_many(arg) ? 1 : 0;
}

static pid_t start_sharer(int (*function)(void *), void *arg)
{
	return clone(function, stack + sizeof(stack), CLONE_VM | CLONE_FILES | SIGCHLD, arg);
}

TEST_F_TIMEOUT(module, shared_memory, TIMEOUT)
{
	static const probed_fn functions[] = { probed_nop, probed_push, probed_lea };
	unsigned int i;

	for (i = 0; i < 3; i++) {
		int id = PROBE(functions[i]);
		pid_t sharer = start_sharer(share, functions[i]);

		ASSERT_LT(0, sharer);
		EXPECT_EQ(0, call_many(functions[i]));
		EXPECT_EQ(0, exit_status(sharer));
		EXPECT_EQ(CALLS, HITS(id));
		UNPROBE(id);
		EXPECT_TRUE(page_is_of_file(getpid(), functions[i]));
	}
}

static atomic_int phase;
static int shared_dev;

static void wait_phase(int value)
{
	while (phase < value)
		sched_yield();
}

static int share_with_own_probe(void *arg)
{
	int id = dev_register(shared_dev, syscall(SYS_getpid), probed_lea, UPROBES_TEST_TASK);
	int ret = 0;

	if (id <= 0)
		return 1;
	phase = 1;
	wait_phase(2);
	if (call_many(probed_lea))
		ret = 2;
	else if (dev_hits(shared_dev, id) != CALLS)
		ret = 3;
	return dev_unregister(shared_dev, id) ? 4 : ret;
}

/* Two processes share their memory, each with a probe at the same address. */
TEST_F_TIMEOUT(module, shared_memory_two_probes, TIMEOUT)
{
	int id = PROBE(probed_lea);
	pid_t sharer;

	shared_dev = self->dev;
	sharer = start_sharer(share_with_own_probe, NULL);
	ASSERT_LT(0, sharer);
	wait_phase(1);
	EXPECT_EQ(0, call_many(probed_lea));
	EXPECT_EQ(CALLS, HITS(id));
	phase = 2;
	EXPECT_EQ(0, exit_status(sharer));
	EXPECT_EQ(0, call_many(probed_lea));
	EXPECT_EQ(2 * CALLS, HITS(id));
	UNPROBE(id);
	EXPECT_TRUE(text_is_of_file(getpid(), probed_nop, 4096));
	EXPECT_TRUE(page_is_of_file(getpid(), probed_nop));
}

/* The result of a process that outlives the one that it shares memory with. */
struct verdict {
	atomic_int done;
	atomic_int result;
};

static int outlive(void *arg)
{
	struct verdict *verdict = arg;
	unsigned int i;

	for (i = 0; i < 5000 && syscall(SYS_getppid) == phase; i++)
		sleep_ms(1);
	verdict->result = call_many(probed_lea) ? 2 : i == 5000;
	verdict->done = 1;
	return 0;
}

TEST_F_TIMEOUT(module, sharer_outlives_process, TIMEOUT)
{
	struct verdict *verdict = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int i;
	pid_t child;

	ASSERT_NE(MAP_FAILED, verdict);
	verdict->result = -1;
	child = fork();
	if (!child) {
		int id = dev_register(self->dev, getpid(), probed_lea, UPROBES_TEST_TASK);

		phase = getpid();
		if (id <= 0 || start_sharer(outlive, verdict) <= 0)
			_exit(1);
		_exit(call_many(probed_lea) || dev_hits(self->dev, id) != CALLS);
	}
	EXPECT_EQ(0, exit_status(child));
	for (i = 0; i < 1000 && !verdict->done; i++)
		sleep_ms(10);
	EXPECT_EQ(0, verdict->result);
	/* The child had this device file, too, so its probe is still there to be unregistered. */
	EXPECT_EQ(0, dev_unregister(self->dev, 1));
}

static void *call_in_thread(void *arg)
{
	wrong += call_many(arg);
	return NULL;
}

static void *call_twice_in_thread(void *arg)
{
	call_in_thread(arg);
	phase++;
	wait_phase(100);
	return call_in_thread(arg);
}

/* All threads hit the probe: threads created before the registration, and after it. */
TEST_F_TIMEOUT(module, threads, TIMEOUT)
{
	pthread_t before[8], after[8];
	unsigned int i;
	int id;

	for (i = 0; i < 8; i++)
		ASSERT_EQ(0, pthread_create(&before[i], NULL, call_twice_in_thread, probed_lea));
	wait_phase(8);
	id = PROBE(probed_lea);
	for (i = 0; i < 8; i++)
		ASSERT_EQ(0, pthread_create(&after[i], NULL, call_in_thread, probed_lea));
	phase = 100;
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, pthread_join(before[i], NULL));
		ASSERT_EQ(0, pthread_join(after[i], NULL));
	}
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(16 * CALLS, HITS(id));
	UNPROBE(id);
}

/* More threads in handlers at once than any table of a fixed size would hold. */
TEST_F_TIMEOUT(module, threads_in_handlers, TIMEOUT)
{
	struct uprobes_test_register how = {
		.pid = getpid(),
		.vaddr = (unsigned long)probed_lea,
		.flags = UPROBES_TEST_TASK,
		.sleep_usec = 200,
	};
	int id = dev_register_how(self->dev, &how);
	pthread_t thread[100];
	unsigned int i;

	ASSERT_LT(0, id);
	for (i = 0; i < 100; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, call_in_thread, probed_lea));
	for (i = 0; i < 100; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(100 * CALLS, HITS(id));
	UNPROBE(id);
}

/* Threads are created and exit all the time. */
TEST_F_TIMEOUT(module, many_threads, TIMEOUT)
{
	int id = PROBE(probed_nop);
	unsigned int i, rounds = scaled(200);

	for (i = 0; i < rounds; i++) {
		pthread_t thread;

		ASSERT_EQ(0, pthread_create(&thread, NULL, call_in_thread, probed_nop));
		ASSERT_EQ(0, pthread_join(thread, NULL));
	}
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(rounds * CALLS, HITS(id));
	UNPROBE(id);
}

TEST_HARNESS_MAIN
