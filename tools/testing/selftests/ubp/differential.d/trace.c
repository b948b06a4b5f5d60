// SPDX-License-Identifier: GPL-2.0
/* Debugger that stops the threads continually: see disturb.h. */
#include <errno.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "disturb.h"

#ifdef __x86_64__
#define IP_OFFSET	offsetof(struct user, regs.rip)
#else
#define IP_OFFSET	offsetof(struct user, regs.eip)
#endif

static struct traced *find(struct traced *traced, unsigned int count, pid_t pid)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		if (traced[i].pid == pid)
			return &traced[i];
	return NULL;
}

/* Resumes the thread, and sometimes stops it again after a moment. */
static void go_on(pid_t pid, int signal, struct rng *rng)
{
	volatile unsigned int wait;

	if (ptrace(PTRACE_CONT, pid, NULL, signal) || !rng_chance(rng, 60))
		return;
	for (wait = rng_below(rng, 3000); wait; wait--)
		;
	ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
}

bool trace_until_end(struct traced *traced, unsigned int count, struct rng *rng)
{
	unsigned int i, left = count;
	struct traced *one;
	int status;
	pid_t pid;

	for (i = 0; i < count; i++) {
		if (ptrace(PTRACE_SEIZE, traced[i].pid, NULL, PTRACE_O_EXITKILL))
			return false;
		__atomic_store_n(&traced[i].run->go, true, __ATOMIC_RELEASE);
	}
	while (left) {
		pid = waitpid(-1, &status, __WALL);
		if (pid < 0 && errno == EINTR)
			continue;
		one = find(traced, count, pid);
		if (!one)
			return false;
		if (!WIFSTOPPED(status)) {
			one->status = status;
			left--;
			continue;
		}
		disturb_saw(one->run, ptrace(PTRACE_PEEKUSER, pid, IP_OFFSET, NULL));
		/* A requested stop has no signal. */
		go_on(pid, status >> 16 ? 0 : WSTOPSIG(status), rng);
	}
	return true;
}
