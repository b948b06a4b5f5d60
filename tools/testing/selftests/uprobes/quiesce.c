// SPDX-License-Identifier: GPL-2.0
/* Quiesced processes: they run no user code, and lose nothing by it. */
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "module_fixture.h"

#define THREADS	4

/* State that the process under test shows to the outside. */
static struct shown {
	atomic_ulong count[64];
	atomic_uint signals;
	atomic_int phase;
	atomic_int result;
	atomic_uint futex;
} *shown;

static bool show(void)
{
	shown = mmap(NULL, sizeof(*shown), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	return shown != MAP_FAILED;
}

static unsigned long total(void)
{
	unsigned long sum = 0;
	unsigned int i;

	for (i = 0; i < 64; i++)
		sum += shown->count[i];
	return sum;
}

/* Returns whether no counter moves for @ms milliseconds. */
static bool still(unsigned int ms)
{
	unsigned long before = total();

	sleep_ms(ms);
	return total() == before;
}

/* Waits for a counter to move, and returns whether it did. */
static bool moves(void)
{
	uint64_t end = now_ms() + 20000;
	unsigned long before = total();

	while (total() == before && now_ms() < end)
		sleep_ms(1);
	return total() != before;
}

static bool wait_phase(int value)
{
	uint64_t end = now_ms() + 20000;

	while (shown->phase < value && now_ms() < end)
		sleep_ms(1);
	return shown->phase >= value;
}

static void *count_forever(void *arg)
{
	for (;;)
		shown->count[(long)arg]++;
	return NULL;
}

static void start_counting(unsigned int threads)
{
	pthread_t thread;
	long i;

	for (i = 0; i < threads; i++)
		pthread_create(&thread, NULL, count_forever, (void *)i);
}

static pid_t start_counters(void)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		start_counting(THREADS);
		count_forever((void *)(long)THREADS);
	}
	return pid;
}

static int end(pid_t pid)
{
	int status = -1;

	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return status;
}

TEST_F_TIMEOUT(module, stands_still, TIMEOUT)
{
	unsigned int i;
	pid_t pid;

	ASSERT_TRUE(show());
	pid = start_counters();
	for (i = 0; i < 10; i++) {
		int guard;

		ASSERT_TRUE(moves());
		guard = dev_quiesce(self->dev, pid);
		ASSERT_LT(0, guard);
		EXPECT_TRUE(still(i ? 20 : 200));
		ASSERT_EQ(0, dev_resume(self->dev, guard));
		EXPECT_EQ(-ENOENT, dev_resume(self->dev, guard));
	}
	EXPECT_TRUE(moves());
	EXPECT_EQ(SIGKILL, end(pid));
}

/* Closing the device file releases its guard. */
TEST_F_TIMEOUT(module, resumed_by_close, TIMEOUT)
{
	pid_t pid;
	int dev;

	ASSERT_TRUE(show());
	pid = start_counters();
	ASSERT_TRUE(moves());
	/* A file that the process has not inherited. */
	dev = dev_open();
	ASSERT_LT(0, dev_quiesce(dev, pid));
	EXPECT_TRUE(still(50));
	close(dev);
	EXPECT_TRUE(moves());
	EXPECT_EQ(SIGKILL, end(pid));
}

static void on_signal(int signal)
{
	shown->signals++;
}

static void *wait_on_futex(void *arg)
{
	long ret = syscall(SYS_futex, &shown->futex, FUTEX_WAIT, 0, NULL, NULL, 0);

	if (ret && !(errno == EAGAIN && shown->futex))
		shown->result = 1;
	shown->phase++;
	return NULL;
}

static void *sleep_long(void *arg)
{
	struct timespec time = { .tv_nsec = 500000000 };
	uint64_t start = now_ms();

	if (nanosleep(&time, NULL) || now_ms() - start < 499)
		shown->result = 2;
	shown->phase++;
	return NULL;
}

/* Threads that wait in the kernel stay there, and their waits complete. */
TEST_F_TIMEOUT(module, blocked_calls_are_not_interrupted, TIMEOUT)
{
	int pipes[2], guard;
	unsigned int i;
	pid_t pid;

	ASSERT_TRUE(show());
	ASSERT_EQ(0, pipe(pipes));
	pid = fork();
	if (!pid) {
		pthread_t thread[2];
		char text[16] = "";

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pthread_create(&thread[0], NULL, wait_on_futex, NULL);
		pthread_create(&thread[1], NULL, sleep_long, NULL);
		if (read(pipes[0], text, sizeof(text)) != 6 || strcmp(text, "hello"))
			shown->result = 3;
		shown->phase++;
		pthread_join(thread[0], NULL);
		pthread_join(thread[1], NULL);
		_exit(0);
	}
	ASSERT_TRUE(wait_state(pid, pid, "S"));
	for (i = 0; i < 50; i++) {
		guard = dev_quiesce(self->dev, pid);
		ASSERT_LT(0, guard);
		ASSERT_EQ(0, dev_resume(self->dev, guard));
	}
	EXPECT_TRUE(wait_state(pid, pid, "S"));

	/* Data and wake-ups that arrive while the process is quiesced are there when it resumes. */
	guard = dev_quiesce(self->dev, pid);
	ASSERT_LT(0, guard);
	ASSERT_EQ(6, write(pipes[1], "hello", 6));
	shown->futex = 1;
	syscall(SYS_futex, &shown->futex, FUTEX_WAKE, 10, NULL, NULL, 0);
	sleep_ms(600);
	EXPECT_EQ(0, shown->phase);
	ASSERT_EQ(0, dev_resume(self->dev, guard));
	EXPECT_TRUE(wait_phase(3));
	EXPECT_EQ(0, shown->result);
	EXPECT_EQ(0, waitpid(pid, &guard, 0) != pid || guard);
}

TEST_F_TIMEOUT(module, kill_gets_through, TIMEOUT)
{
	unsigned int i;

	ASSERT_TRUE(show());
	for (i = 0; i < 10; i++) {
		pid_t pid = start_counters();
		int guard, status;

		ASSERT_TRUE(moves());
		guard = dev_quiesce(self->dev, pid);
		ASSERT_LT(0, guard);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(SIGKILL, status);
		ASSERT_EQ(0, dev_resume(self->dev, guard));
	}
}

TEST_F_TIMEOUT(module, signals_wait, TIMEOUT)
{
	int guard, status;
	pid_t pid;

	ASSERT_TRUE(show());
	signal(SIGUSR1, on_signal);
	pid = start_counters();
	ASSERT_TRUE(moves());
	guard = dev_quiesce(self->dev, pid);
	ASSERT_LT(0, guard);
	ASSERT_EQ(0, kill(pid, SIGUSR1));
	EXPECT_TRUE(still(100));
	EXPECT_EQ(0, shown->signals);
	ASSERT_EQ(0, dev_resume(self->dev, guard));
	EXPECT_TRUE(moves());
	sleep_ms(50);
	EXPECT_EQ(1, shown->signals);

	/* A stopped process that is quiesced and then continued stays held. */
	ASSERT_EQ(0, kill(pid, SIGSTOP));
	EXPECT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	guard = dev_quiesce(self->dev, pid);
	ASSERT_LT(0, guard);
	ASSERT_EQ(0, kill(pid, SIGCONT));
	EXPECT_TRUE(still(100));
	ASSERT_EQ(0, dev_resume(self->dev, guard));
	EXPECT_TRUE(moves());
	EXPECT_EQ(SIGKILL, end(pid));
}

TEST_F_TIMEOUT(module, traced_process, TIMEOUT)
{
	int guard, status;
	pid_t pid;

	ASSERT_TRUE(show());
	pid = start_counters();
	ASSERT_TRUE(moves());
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, pid, NULL, NULL));
	ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, pid, NULL, NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	guard = dev_quiesce(self->dev, pid);
	ASSERT_LT(0, guard);
	EXPECT_TRUE(still(50));
	ASSERT_EQ(0, ptrace(PTRACE_CONT, pid, NULL, NULL));
	EXPECT_TRUE(still(100));
	ASSERT_EQ(0, dev_resume(self->dev, guard));
	EXPECT_TRUE(moves());
	ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, pid, NULL, NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, pid, NULL, NULL));
	EXPECT_EQ(SIGKILL, end(pid));
}

/* Two holders quiesce the process. It runs when both have resumed it. */
TEST_F_TIMEOUT(module, two_holders, TIMEOUT)
{
	pid_t pid, other;
	unsigned int i;
	int status;

	ASSERT_TRUE(show());
	pid = start_counters();
	ASSERT_TRUE(moves());
	other = fork();
	if (!other) {
		for (i = 0; i < 50; i++)
			if (dev_quiesce_for(self->dev, pid, 3000))
				_exit(1);
		_exit(0);
	}
	for (i = 0; i < 50; i++) {
		int guard = dev_quiesce(self->dev, pid);

		ASSERT_LT(0, guard);
		EXPECT_TRUE(still(5));
		ASSERT_EQ(0, dev_resume(self->dev, guard));
	}
	ASSERT_EQ(other, waitpid(other, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(moves());
	EXPECT_EQ(SIGKILL, end(pid));
}

/* A thread that quiesces its own process is held itself until another process resumes it. */
TEST_F_TIMEOUT(module, oneself, TIMEOUT)
{
	int status;
	pid_t pid;

	ASSERT_TRUE(show());
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		start_counting(2);
		shown->phase = 1;
		if (dev_quiesce_for(self->dev, getpid(), 200000))
			_exit(1);
		shown->phase = 2;
		if (dev_quiesce(self->dev, getpid()) <= 0)
			_exit(2);
		shown->phase = 3;
		_exit(0);
	}
	ASSERT_TRUE(wait_phase(1));
	sleep_ms(50);
	EXPECT_EQ(1, shown->phase);
	EXPECT_TRUE(still(50));
	ASSERT_TRUE(wait_phase(2));
	sleep_ms(50);
	EXPECT_TRUE(still(100));
	EXPECT_EQ(2, shown->phase);
	ASSERT_EQ(0, dev_resume(self->dev, 1));
	EXPECT_TRUE(wait_phase(3));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F_TIMEOUT(module, errors, TIMEOUT)
{
	pid_t ended = fork();

	if (!ended)
		_exit(0);
	ASSERT_EQ(ended, waitpid(ended, NULL, 0));
	EXPECT_EQ(-ESRCH, dev_quiesce(self->dev, ended));
	EXPECT_EQ(-EINVAL, dev_quiesce(self->dev, 0));
	EXPECT_EQ(-EINVAL, dev_quiesce(self->dev, -1));
	EXPECT_EQ(-EINVAL, dev_quiesce(self->dev, 2));
}

TEST_HARNESS_MAIN
