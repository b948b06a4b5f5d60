// SPDX-License-Identifier: GPL-2.0
/* Engines on the threads of a process: each event is told once, to the right ones. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "module_fixture.h"

/* How far the process under test is, and how far it may go. */
static struct shown {
	atomic_int phase;
	atomic_int go;
	atomic_int tid;
} *shown;

static bool show(void)
{
	shown = mmap(NULL, sizeof(*shown), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	return shown != MAP_FAILED;
}

static bool reaches(atomic_int *where, int value)
{
	uint64_t end = now_ms() + 20000;

	while (*where < value && now_ms() < end)
		sleep_ms(1);
	return *where >= value;
}

static int wait_status(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return status;
}

static void *wait_to_go(void *arg)
{
	shown->phase++;
	reaches(&shown->go, (long)arg);
	return NULL;
}

static void expect_events(struct __test_metadata *_metadata, int dev, int id,
			  const struct uprobes_test_events *expected)
{
	struct uprobes_test_events events;

	ASSERT_EQ(0, dev_events(dev, id, &events));
	EXPECT_EQ(expected->clone_thread, events.clone_thread);
	EXPECT_EQ(expected->clone_process, events.clone_process);
	EXPECT_EQ(expected->exec, events.exec);
	EXPECT_EQ(expected->exit, events.exit);
	EXPECT_EQ(expected->last_exit, events.last_exit);
}

#define EVENTS(id, ...)							\
	expect_events(_metadata, self->dev, id, &(struct uprobes_test_events){ __VA_ARGS__ })

/* Threads from before the engine and from after it, and those that they create. */
TEST_F_TIMEOUT(module, threads, TIMEOUT)
{
	pid_t pid;
	int id;

	ASSERT_TRUE(show());
	pid = fork();
	if (!pid) {
		pthread_t before[4], after[4];
		unsigned int i;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (i = 0; i < 4; i++)
			pthread_create(&before[i], NULL, wait_to_go, (void *)2);
		reaches(&shown->go, 1);
		for (i = 0; i < 4; i++)
			pthread_create(&after[i], NULL, wait_to_go, (void *)2);
		for (i = 0; i < 4; i++) {
			pthread_join(before[i], NULL);
			pthread_join(after[i], NULL);
		}
		shown->phase = 100;
		reaches(&shown->go, 3);
		_exit(0);
	}
	ASSERT_TRUE(reaches(&shown->phase, 4));
	id = dev_attach(self->dev, pid);
	ASSERT_LT(0, id);
	EVENTS(id);
	shown->go = 1;
	ASSERT_TRUE(reaches(&shown->phase, 8));
	EVENTS(id, .clone_thread = 4);
	shown->go = 2;
	ASSERT_TRUE(reaches(&shown->phase, 100));
	EVENTS(id, .clone_thread = 4, .exit = 8);
	shown->go = 3;
	EXPECT_EQ(0, wait_status(pid));
	EVENTS(id, .clone_thread = 4, .exit = 9, .last_exit = 1);
	EXPECT_EQ(0, dev_detach(self->dev, id));
}

/* A child has no engine: what it does is not told. */
TEST_F_TIMEOUT(module, fork, TIMEOUT)
{
	int first, second;
	pid_t pid;

	ASSERT_TRUE(show());
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		shown->phase = 1;
		reaches(&shown->go, 1);
		if (!fork()) {
			pthread_t thread;

			pthread_create(&thread, NULL, wait_to_go, (void *)0);
			pthread_join(thread, NULL);
			if (!fork())
				_exit(0);
			wait(NULL);
			_exit(0);
		}
		wait(NULL);
		_exit(0);
	}
	ASSERT_TRUE(reaches(&shown->phase, 1));
	first = dev_attach(self->dev, pid);
	ASSERT_LT(0, first);
	second = dev_attach(self->dev, pid);
	ASSERT_LT(0, second);
	shown->go = 1;
	EXPECT_EQ(0, wait_status(pid));
	/* Both engines are told everything. */
	EVENTS(first, .clone_process = 1, .exit = 1, .last_exit = 1);
	EVENTS(second, .clone_process = 1, .exit = 1, .last_exit = 1);
	EXPECT_EQ(0, dev_detach(self->dev, second));
	EXPECT_EQ(0, dev_detach(self->dev, first));
}

static void *execute(void *arg)
{
	execl("/bin/true", "true", NULL);
	_exit(1);
}

static void exec(struct __test_metadata *_metadata, int dev, bool by_thread)
{
	struct uprobes_test_events expected = {
		.clone_thread = by_thread,
		.exec = 1,
		.exit = 1 + by_thread,
		.last_exit = 1,
	};
	pid_t pid;
	int id;

	ASSERT_TRUE(show());
	pid = fork();
	if (!pid) {
		pthread_t thread;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		shown->phase = 1;
		reaches(&shown->go, 1);
		if (!by_thread)
			execute(NULL);
		pthread_create(&thread, NULL, execute, NULL);
		pause();
	}
	ASSERT_TRUE(reaches(&shown->phase, 1));
	id = dev_attach(dev, pid);
	ASSERT_LT(0, id);
	shown->go = 1;
	EXPECT_EQ(0, wait_status(pid));
	expect_events(_metadata, dev, id, &expected);
	EXPECT_EQ(0, dev_detach(dev, id));
}

TEST_F_TIMEOUT(module, exec_by_leader, TIMEOUT)
{
	exec(_metadata, self->dev, false);
}

TEST_F_TIMEOUT(module, exec_by_thread, TIMEOUT)
{
	exec(_metadata, self->dev, true);
}

static bool reports(int dev, int id, long long times)
{
	struct uprobes_test_events events;
	uint64_t end = now_ms() + 5000;

	do {
		if (!dev_events(dev, id, &events) && events.quiesce >= times)
			return events.quiesce == times;
		sleep_ms(1);
	} while (now_ms() < end);
	return false;
}

/* A thread that runs reports soon, and once for each time it is asked. */
TEST_F_TIMEOUT(module, running_thread_reports, TIMEOUT)
{
	struct uprobes_test_events events;
	int id, times;
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			;
	}
	id = dev_attach(self->dev, pid);
	ASSERT_LT(0, id);
	ASSERT_EQ(0, dev_events(self->dev, id, &events));
	EXPECT_EQ(0, events.quiesce);
	for (times = 1; times <= 20; times++) {
		ASSERT_EQ(0, dev_report(self->dev, id, pid));
		EXPECT_TRUE(reports(self->dev, id, times));
	}
	sleep_ms(50);
	EXPECT_TRUE(reports(self->dev, id, 20));
	EXPECT_EQ(-ESRCH, dev_report(self->dev, id, getpid()));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, wait_status(pid));
	EXPECT_EQ(-ESRCH, dev_report(self->dev, id, pid));
	EXPECT_EQ(0, dev_detach(self->dev, id));
}

/* A thread that waits in the kernel is left alone until it comes back by itself. */
TEST_F_TIMEOUT(module, blocked_thread_reports_later, TIMEOUT)
{
	struct uprobes_test_events events;
	int pipes[2], id;
	pid_t pid;

	ASSERT_EQ(0, pipe(pipes));
	pid = fork();
	if (!pid) {
		char byte;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(read(pipes[0], &byte, 1) != 1 || read(pipes[0], &byte, 1) != 1);
	}
	ASSERT_TRUE(wait_state(pid, pid, "S"));
	id = dev_attach(self->dev, pid);
	ASSERT_LT(0, id);
	ASSERT_EQ(0, dev_report(self->dev, id, pid));
	sleep_ms(100);
	EXPECT_TRUE(wait_state(pid, pid, "S"));
	ASSERT_EQ(0, dev_events(self->dev, id, &events));
	EXPECT_EQ(0, events.quiesce);
	ASSERT_EQ(1, write(pipes[1], "", 1));
	EXPECT_TRUE(reports(self->dev, id, 1));
	ASSERT_EQ(1, write(pipes[1], "", 1));
	EXPECT_EQ(0, wait_status(pid));
	EXPECT_EQ(0, dev_detach(self->dev, id));
}

TEST_F_TIMEOUT(module, errors, TIMEOUT)
{
	pid_t ended = fork();

	if (!ended)
		_exit(0);
	ASSERT_TRUE(wait_state(ended, ended, "Z"));
	EXPECT_EQ(-ESRCH, dev_attach(self->dev, ended));
	ASSERT_EQ(ended, waitpid(ended, NULL, 0));
	EXPECT_EQ(-ESRCH, dev_attach(self->dev, ended));
	EXPECT_EQ(-EINVAL, dev_attach(self->dev, 0));
	EXPECT_EQ(-EINVAL, dev_attach(self->dev, -1));
	EXPECT_EQ(-EPERM, dev_attach(self->dev, 2));
}

static void *make_threads(void *arg)
{
	for (;;) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, wait_to_go, (void *)0))
			_exit(1);
		pthread_join(thread, NULL);
	}
	return NULL;
}

/* Engines come and go while threads do. Threads that end are those that were created. */
TEST_F_TIMEOUT(module, while_threads_come_and_go, TIMEOUT)
{
	enum { MAKERS = 10 };
	unsigned int i, tries, rounds = scaled(100);
	struct uprobes_test_events events;
	pid_t pid;
	int all;

	ASSERT_TRUE(show());
	pid = fork();
	if (!pid) {
		pthread_t thread;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		reaches(&shown->go, 1);
		for (i = 1; i < MAKERS; i++)
			pthread_create(&thread, NULL, make_threads, NULL);
		make_threads(NULL);
	}
	all = dev_attach(self->dev, pid);
	ASSERT_LT(0, all);
	shown->go = 1;
	ASSERT_TRUE(reaches(&shown->phase, 10));
	for (i = 0; i < rounds; i++) {
		int id = dev_attach(self->dev, pid), from = shown->phase;

		ASSERT_LT(0, id);
		ASSERT_TRUE(reaches(&shown->phase, from + 5));
		/* Threads count themselves while they run; they end later. */
		for (tries = 0; tries < 10000; tries++) {
			ASSERT_EQ(0, dev_events(self->dev, id, &events));
			if (events.clone_thread && events.exit)
				break;
			sleep_ms(1);
		}
		EXPECT_LT(0, events.clone_thread);
		EXPECT_LT(0, events.exit);
		ASSERT_EQ(0, dev_detach(self->dev, id));
		EXPECT_EQ(-ENOENT, dev_events(self->dev, id, &events));
	}
	ASSERT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, wait_status(pid));
	/* Whoever was created has ended, and so has the first. */
	ASSERT_EQ(0, dev_events(self->dev, all, &events));
	EXPECT_EQ(events.clone_thread + 1, events.exit);
	EXPECT_EQ(1, events.last_exit);
	EXPECT_EQ(0, events.clone_process);
	TH_LOG("%lld threads", (long long)events.clone_thread);
	EXPECT_EQ(0, dev_detach(self->dev, all));
}

TEST_HARNESS_MAIN
