/* SPDX-License-Identifier: GPL-2.0 */
/* Fixture of the tests of uprobe_events. */
#ifndef _TRACEFS_FIXTURE_H
#define _TRACEFS_FIXTURE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "uprobes_selftest.h"

FIXTURE(events)
{
	struct target target;
};

FIXTURE_SETUP(events)
{
	if (geteuid())
		SKIP(return, "needs root");
	if (!tracefs_ready())
		SKIP(return, "no uprobe_events");
	if (!tracefs_takes_pids())
		SKIP(return, "uprobe_events takes no PID:VADDR");
	tracefs_replace("events/uprobes/enable", "0");
	ASSERT_EQ(0, tracefs_replace("uprobe_events", "%s", ""));
	ASSERT_EQ(0, tracefs_replace("tracing_on", "1"));
	ASSERT_EQ(0, tracefs_replace("trace", "%s", ""));
	ASSERT_TRUE(target_start(&self->target));
}

FIXTURE_TEARDOWN(events)
{
	char *left;
	int status;

	tracefs_replace("events/uprobes/enable", "0");
	tracefs_replace("events/selftest/enable", "0");
	EXPECT_EQ(0, tracefs_replace("uprobe_events", "%s", ""));
	left = tracefs_read("uprobe_events");
	EXPECT_STREQ("", left);
	free(left);

	/* The program must run until it is asked to end. */
	status = target_stop(&self->target);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

#endif /* _TRACEFS_FIXTURE_H */
