// SPDX-License-Identifier: GPL-2.0
/* Helpers for time and processes, shared with the selftests of utrace. */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "selftest_process.h"

void sleep_ms(unsigned int ms)
{
	struct timespec left = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&left, &left) && errno == EINTR)
		;
}

uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

bool slow_kernel(void)
{
	return !access("/proc/lockdep", F_OK);
}

unsigned int scaled(unsigned int rounds)
{
	if (slow_kernel())
		rounds /= 10;
	return rounds ? rounds : 1;
}

bool wait_state(pid_t pid, pid_t tid, const char *states)
{
	uint64_t end = now_ms() + 20000;

	do {
		char path[64], line[512], *state;
		FILE *stat;

		snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
		stat = fopen(path, "r");
		if (!stat)
			return strchr(states, 'X');
		state = fgets(line, sizeof(line), stat) ? strrchr(line, ')') : NULL;
		fclose(stat);
		if (state && strchr(states, state[2]))
			return true;
		sleep_ms(2);
	} while (now_ms() < end);
	return false;
}

pid_t start_stopped(const char *name, int *from)
{
	char path[PATH_MAX] = "";
	int pipes[2], status;
	pid_t pid;

	if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0 || pipe(pipes))
		return -1;
	strcat(strcat(dirname(path), "/"), name);
	pid = fork();
	if (!pid) {
		dup2(pipes[1], STDOUT_FILENO);
		execl(path, path, NULL);
		_exit(127);
	}
	close(pipes[1]);
	*from = pipes[0];
	if (waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status))
		return pid;
	close(pipes[0]);
	return -1;
}
