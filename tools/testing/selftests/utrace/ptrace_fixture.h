/* SPDX-License-Identifier: GPL-2.0 */
/* Fixture in which the test is a debugger of the target. */
#ifndef _PTRACE_FIXTURE_H
#define _PTRACE_FIXTURE_H

#include <sys/ptrace.h>

#include "device_fixture.h"

#define PID	(self->target.pid)
#define PTRACE(request, ...)	ASSERT_EQ(0, ptrace(PTRACE_##request, PID, ##__VA_ARGS__))
#define EVENT_STOP	(SIGTRAP | PTRACE_EVENT_STOP << 8)

/* Waits for a ptrace stop. Returns its status, or 0 if there is none. */
static inline int traced_stop(pid_t pid)
{
	uint64_t end = now_ms() + 20000;
	int status;

	do {
		if (waitpid(pid, &status, WNOHANG | __WALL) == pid)
			return WIFSTOPPED(status) ? status >> 8 : 0;
		sleep_ms(1);
	} while (now_ms() < end);
	return 0;
}

#endif /* _PTRACE_FIXTURE_H */
