// SPDX-License-Identifier: GPL-2.0
/* Processes that exit, or execute another program, while they are probed. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>

#include "module_fixture.h"

#define STAGE	"UPROBES_SELFTEST_STAGE"

/* Forks a process that calls @fn until it is killed. */
static pid_t start_caller(probed_fn fn)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			if (fn(1, 2) != 3)
				_exit(1);
	}
	return pid;
}

static int wait_status(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return status;
}

/* Waits until the probe was hit @more times. Returns false on timeout. */
static bool wait_hits(int dev, int id, long long more)
{
	uint64_t end = now_ms() + 20000;

	while (dev_hits(dev, id) < more && now_ms() < end)
		sleep_ms(1);
	return dev_hits(dev, id) >= more;
}

TEST_F_TIMEOUT(module, kill_while_hitting, TIMEOUT)
{
	unsigned int i, rounds = scaled(50);

	for (i = 0; i < rounds; i++) {
		probed_fn function = i % 2 ? probed_lea : probed_nop;
		pid_t pid = start_caller(function);
		int id = dev_register(self->dev, pid, function, UPROBES_TEST_TASK);

		ASSERT_LT(0, id);
		EXPECT_TRUE(wait_hits(self->dev, id, 100));
		ASSERT_EQ(0, kill(pid, SIGKILL));
		EXPECT_EQ(SIGKILL, wait_status(pid));
		UNPROBE(id);
	}
}

/* Exit and unregistering race, in every order. */
TEST_F_TIMEOUT(module, kill_and_unregister, TIMEOUT)
{
	unsigned int i, rounds = scaled(100);

	for (i = 0; i < rounds; i++) {
		pid_t pid = start_caller(probed_lea);
		int id = dev_register(self->dev, pid, probed_lea, UPROBES_TEST_TASK);

		ASSERT_LT(0, id);
		if (i % 2)
			sched_yield();
		ASSERT_EQ(0, kill(pid, SIGKILL));
		UNPROBE(id);
		EXPECT_EQ(SIGKILL, wait_status(pid));
	}
}

static int register_sleeper(int dev, pid_t pid, unsigned int usec)
{
	struct uprobes_test_register how = {
		.pid = pid,
		.vaddr = (unsigned long)probed_lea,
		.flags = UPROBES_TEST_TASK,
		.sleep_usec = usec,
	};

	return dev_register_how(dev, &how);
}

static bool wait_active(int dev, int id)
{
	uint64_t end = now_ms() + 20000;
	struct uprobes_test_count count;

	do {
		if (!dev_count(dev, id, &count) && count.active)
			return true;
		sleep_ms(1);
	} while (now_ms() < end);
	return false;
}

TEST_F_TIMEOUT(module, kill_in_handler, TIMEOUT)
{
	unsigned int i, rounds = scaled(20);

	for (i = 0; i < rounds; i++) {
		pid_t pid = start_caller(probed_lea);
		int id = register_sleeper(self->dev, pid, 30000);

		ASSERT_LT(0, id);
		ASSERT_TRUE(wait_active(self->dev, id));
		ASSERT_EQ(0, kill(pid, SIGKILL));
		if (i % 2) {
			EXPECT_EQ(SIGKILL, wait_status(pid));
			UNPROBE(id);
		} else {
			UNPROBE(id);
			EXPECT_EQ(SIGKILL, wait_status(pid));
		}
	}
}

/* Unregistering waits for a sleeping handler, however long. */
TEST_F_TIMEOUT(module, unregister_waits_for_handler, TIMEOUT)
{
	pid_t pid = start_caller(probed_lea);
	int id = register_sleeper(self->dev, pid, 300000);
	uint64_t start;

	ASSERT_LT(0, id);
	ASSERT_TRUE(wait_active(self->dev, id));
	start = now_ms();
	UNPROBE(id);
	EXPECT_LE(150, now_ms() - start);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, wait_status(pid));
}

static void *call_forever(void *arg)
{
	probed_fn function = arg;

	while (function(1, 2) == 3)
		;
	_exit(1);
}

/* One thread exits the process while other threads are in the handler. */
TEST_F_TIMEOUT(module, exit_while_others_are_in_handler, TIMEOUT)
{
	pid_t pid = fork();
	int id;

	if (!pid) {
		pthread_t thread;
		unsigned int i;

		id = register_sleeper(self->dev, getpid(), 100000);
		for (i = 0; i < 4; i++)
			pthread_create(&thread, NULL, call_forever, probed_lea);
		if (!wait_active(self->dev, id))
			_exit(2);
		_exit(42);
	}
	EXPECT_EQ(42 << 8, wait_status(pid));
	UNPROBE(1);
}

/* The leader exits. The other threads and the probe stay. */
TEST_F_TIMEOUT(module, leader_exits_first, TIMEOUT)
{
	pid_t pid = fork();
	long long hits;
	int id, late;

	if (!pid) {
		pthread_t thread;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pthread_create(&thread, NULL, call_forever, probed_lea);
		pthread_exit(NULL);
	}
	id = dev_register(self->dev, pid, probed_lea, UPROBES_TEST_TASK);
	ASSERT_LT(0, id);
	EXPECT_TRUE(wait_state(pid, pid, "Z"));
	EXPECT_TRUE(wait_hits(self->dev, id, 10));
	hits = HITS(id);
	EXPECT_TRUE(wait_hits(self->dev, id, hits + 100));

	/* The process can still be probed by its pid. */
	late = dev_register(self->dev, pid, probed_lea, UPROBES_TEST_TASK);
	EXPECT_LT(0, late);
	if (late > 0) {
		EXPECT_TRUE(wait_hits(self->dev, late, 100));
		UNPROBE(late);
	}
	ASSERT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, wait_status(pid));
	UNPROBE(id);
}

static void spin(unsigned int rounds)
{
	while (rounds--)
		asm volatile("");
}

/* Registering races with each stage of a process's exit. */
TEST_F_TIMEOUT(module, register_while_exiting, TIMEOUT)
{
	unsigned int i, rounds = scaled(300), came_in_time = 0;

	for (i = 0; i < rounds; i++) {
		pid_t pid = fork();
		int id;

		if (!pid) {
			spin(i * 50);
			_exit(probed_nop(3, 4) - 7);
		}
		sched_yield();
		id = dev_register(self->dev, pid, probed_nop, UPROBES_TEST_TASK);
		if (id > 0) {
			came_in_time++;
			if (i % 2)
				EXPECT_EQ(0, wait_status(pid));
			UNPROBE(id);
			if (!(i % 2))
				EXPECT_EQ(0, wait_status(pid));
		} else {
			EXPECT_EQ(-ESRCH, id);
			EXPECT_EQ(0, wait_status(pid));
		}
	}
	TH_LOG("%u of %u in time", came_in_time, rounds);
}

/* A stopped process can be probed. The hits occur when it continues. */
TEST_F_TIMEOUT(module, stopped_process, TIMEOUT)
{
	pid_t pid = start_caller(probed_lea);
	int id;

	ASSERT_EQ(0, kill(pid, SIGSTOP));
	ASSERT_TRUE(wait_state(pid, pid, "T"));
	id = dev_register(self->dev, pid, probed_lea, UPROBES_TEST_TASK);
	ASSERT_LT(0, id);
	EXPECT_TRUE(wait_state(pid, pid, "T"));
	EXPECT_EQ(0, HITS(id));
	ASSERT_EQ(0, kill(pid, SIGCONT));
	EXPECT_TRUE(wait_hits(self->dev, id, 100));
	ASSERT_EQ(0, kill(pid, SIGSTOP));
	ASSERT_TRUE(wait_state(pid, pid, "T"));
	UNPROBE(id);
	EXPECT_TRUE(wait_state(pid, pid, "T"));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, wait_status(pid));
}

static void *execute_itself(void *arg)
{
	execl("/proc/self/exe", "stage", NULL);
	_exit(3);
}

/*
 * The two images of the exec tests. The first reports its address, waits to be probed, calls
 * probed_lea(), and executes the second, which lies at the same addresses.
 */
__attribute__((constructor)) static void stages(void)
{
	const char *stage = getenv(STAGE);
	unsigned long at = (unsigned long)probed_lea;
	pthread_t thread;
	char go;

	if (!stage)
		return;
	if (*stage == '0') {
		setenv(STAGE, stage[1] == 't' ? "1t" : "1", 1);
		personality(ADDR_NO_RANDOMIZE);
		execute_itself(NULL);
	}
	if (*stage == '2')
		_exit(byte_at(probed_lea) != 0x48 ||
		      probed_lea(1, 2) != 3 ||
		      !text_is_of_file(getpid(), probed_nop, 4096));

	setenv(STAGE, "2", 1);
	if (write(STDOUT_FILENO, &at, sizeof(at)) != sizeof(at) ||
	    read(STDIN_FILENO, &go, 1) != 1 || probed_lea(1, 2) != 3)
		_exit(4);
	if (stage[1] != 't')
		execute_itself(NULL);
	pthread_create(&thread, NULL, execute_itself, NULL);
	pthread_join(thread, NULL);
	_exit(5);
}

static void exec_stages(struct __test_metadata *_metadata, int dev, const char *stage)
{
	int to[2], from[2], id, also;
	unsigned long at;
	pid_t pid;

	ASSERT_EQ(0, pipe(to));
	ASSERT_EQ(0, pipe(from));
	pid = fork();
	if (!pid) {
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		setenv(STAGE, stage, 1);
		execute_itself(NULL);
	}
	ASSERT_EQ(sizeof(at), read(from[0], &at, sizeof(at)));
	id = dev_register(dev, pid, (void *)at, UPROBES_TEST_TASK);
	ASSERT_LT(0, id);
	also = dev_register(dev, pid, (void *)at, UPROBES_TEST_TASK);
	ASSERT_LT(0, also);
	ASSERT_EQ(1, write(to[1], "", 1));
	EXPECT_EQ(0, wait_status(pid));
	EXPECT_EQ(1, dev_hits(dev, id));
	EXPECT_EQ(1, dev_hits(dev, also));
	EXPECT_EQ(0, dev_unregister(dev, id));
	EXPECT_EQ(0, dev_unregister(dev, also));
}

TEST_F_TIMEOUT(module, exec, TIMEOUT)
{
	exec_stages(_metadata, self->dev, "0");
}

TEST_F_TIMEOUT(module, exec_by_another_thread, TIMEOUT)
{
	exec_stages(_metadata, self->dev, "0t");
}

/* The file that holds a process's own probes is closed when the process exits. */
TEST_F_TIMEOUT(module, probes_itself_and_exits, TIMEOUT)
{
	unsigned int i, rounds = scaled(50);

	for (i = 0; i < rounds; i++) {
		pid_t pid = fork();

		if (!pid) {
			int dev = dev_open();
			int id = dev_register(dev, getpid(), probed_nop, UPROBES_TEST_TASK);

			_exit(id <= 0 || probed_nop(1, 2) != 3 || dev_hits(dev, id) != 1);
		}
		EXPECT_EQ(0, wait_status(pid));
	}
}

TEST_HARNESS_MAIN
