// SPDX-License-Identifier: GPL-2.0
/* Target processes of the selftests of utrace. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "utrace_selftest.h"

bool wait_readable(int fd, int ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, ms) == 1;
}

struct command {
	target_fn fn;
	long arg;
};

static void target_loop(int from, int to)
{
	struct command command;
	ssize_t got;

	for (;;) {
		long result;

		got = read(from, &command, sizeof(command));
		if (got < 0 && errno == EINTR)
			continue;
		if (got != sizeof(command))
			_exit(0);
		result = command.fn(command.arg);
		while (write(to, &result, sizeof(result)) < 0 && errno == EINTR)
			;
	}
}

bool target_start(struct target *target)
{
	static const struct rlimit no_core;
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		return false;
	target->pid = fork();
	if (target->pid < 0)
		return false;
	if (!target->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setrlimit(RLIMIT_CORE, &no_core);
		dev_close_in_target();
		close(to[1]);
		close(from[0]);
		target_loop(to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	target->to = to[1];
	target->from = from[0];
	/* Wait until the target waits for its first call. */
	return wait_state(target->pid, target->pid, "S");
}

bool target_begin(struct target *target, target_fn fn, long arg)
{
	struct command command = { .fn = fn, .arg = arg };

	return write(target->to, &command, sizeof(command)) == sizeof(command);
}

long target_end(struct target *target)
{
	long result;

	if (!wait_readable(target->from, SOON_MS) ||
	    read(target->from, &result, sizeof(result)) != sizeof(result))
		return NOT_DONE;
	return result;
}

long target_call(struct target *target, target_fn fn, long arg)
{
	return target_begin(target, fn, arg) ? target_end(target) : NOT_DONE;
}

bool target_busy(struct target *target)
{
	return !wait_readable(target->from, A_WHILE_MS);
}

int wait_status(pid_t pid)
{
	uint64_t end = now_ms() + SOON_MS;
	int status;
	pid_t got;

	do {
		got = waitpid(pid, &status, WNOHANG | __WALL);
		if (got == pid)
			return status;
		sleep_ms(2);
	} while (!got && now_ms() < end);
	return -1;
}

int target_stop(struct target *target)
{
	close(target->to);
	close(target->from);
	return wait_status(target->pid);
}

int target_kill(struct target *target)
{
	kill(target->pid, SIGKILL);
	return target_stop(target);
}

struct shared *shared;

bool share(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	return shared != MAP_FAILED;
}

bool reaches(atomic_int *where, int value)
{
	uint64_t end = now_ms() + SOON_MS;

	while (*where < value && now_ms() < end)
		sleep_ms(1);
	return *where >= value;
}

long do_getpid(long arg)
{
	long ret = syscall(SYS_getpid);

	return ret < 0 ? -errno : ret;
}

long do_exit(long code)
{
	_exit(code);
}

long do_kill_self(long sig)
{
	return syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig) ? -errno : 0;
}

long do_spin(long until)
{
	while (shared->go != until)
		shared->turns++;
	return 0;
}

long do_read(long fd)
{
	char byte;
	ssize_t got = read(fd, &byte, 1);

	return got < 0 ? -errno : got;
}

long do_fork(long arg)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	return pid;
}

long do_exec(long arg)
{
	execl("/bin/true", "true", NULL);
	return -errno;
}

long do_open(long arg)
{
	int fd = open("/dev/null", O_RDONLY);

	return fd < 0 ? -errno : close(fd);
}

static void count(int sig)
{
	shared->value++;
}

long do_handle(long sig)
{
	return signal(sig, count) == SIG_ERR;
}

long do_ignore(long sig)
{
	return signal(sig, SIG_IGN) == SIG_ERR;
}

long do_default(long sig)
{
	return signal(sig, SIG_DFL) == SIG_ERR;
}

static long mask_signal(int how, int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	return sigprocmask(how, &set, NULL);
}

long do_block(long sig)
{
	return mask_signal(SIG_BLOCK, sig);
}

long do_unblock(long sig)
{
	return mask_signal(SIG_UNBLOCK, sig);
}

static void *thread_body(void *ends)
{
	shared->tid = syscall(SYS_gettid);
	while (!ends)
		pause();
	return NULL;
}

long do_thread(long ends)
{
	pthread_t thread;

	shared->tid = 0;
	if (pthread_create(&thread, NULL, thread_body, (void *)ends))
		return -EAGAIN;
	if (ends)
		return pthread_join(thread, NULL);
	return reaches(&shared->tid, 1) ? 0 : -ETIMEDOUT;
}

bool spins(void)
{
	uint64_t end = now_ms() + SOON_MS;
	unsigned long long before = shared->turns;

	while (shared->turns == before && now_ms() < end)
		sleep_ms(1);
	return shared->turns != before;
}

bool spins_not(void)
{
	unsigned long long before = shared->turns;

	sleep_ms(A_WHILE_MS);
	return shared->turns == before;
}
